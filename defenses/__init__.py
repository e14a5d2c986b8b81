"""Defenses, one family a file, and the registry of them. A new one is a file and a line here."""

import os

# MKL's sums depend on where in memory a vector lies unless it is told not to let them: a trial's
# numbers must not depend on its slot in a batch. Read by MKL at its first use; costs nothing measurable.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

from defenses.base import Account, ContractError, Defense, Gradients, NoDefense, Point
from defenses.noise import Gaussian, Laplacian
from defenses.precision import BFloat16, Float16
from defenses.pruning import Prune
from defenses.quantization import Int8
from defenses.registry import Registry
from defenses.traffic import sparse_bytes

__all__ = [
    "DEFENSES",
    "Account",
    "ContractError",
    "Defense",
    "Gradients",
    "NoDefense",
    "Point",
    "sparse_bytes",
]

DEFENSES = Registry("defense", Defense, [NoDefense, Gaussian, Laplacian, Float16, BFloat16, Prune, Int8])
