"""The arithmetic of secure sums and shared inference: numbers mod 2^k, their shares, and encodings."""

from leakbench.bench.sharing.capacity import ModulusError, check_modulus
from leakbench.bench.sharing.encodings import Encoding, FixedPoint, Levels
from leakbench.bench.sharing.ring import Ring
from leakbench.bench.sharing.shares import reconstruct, share

__all__ = [
    "Encoding",
    "FixedPoint",
    "Levels",
    "ModulusError",
    "Ring",
    "check_modulus",
    "reconstruct",
    "share",
]
