"""Whether a modulus has room for a sum: beyond it a sum comes out as another number, and nothing tells."""

from math import inf

from leakbench.bench.sharing.encodings import Encoding
from leakbench.bench.sharing.ring import WORD, Ring
from leakbench.core.configured import SettingError


class ModulusError(SettingError):
    """The modulus is too small for the clients: their sum may overflow."""


def check_modulus(encoding: Encoding, ring: Ring, clients: int, magnitude: float) -> None:
    """Whether the sum of what clients send fits the ring, whatever they send.

    Args:
        encoding: of what they send.
        ring: that is summed in.
        clients: how many.
        magnitude: the largest of any client's values.

    Raises:
        ModulusError: the sum does not fit; the text says how many bits are needed.
        SettingError: no clients, or a magnitude that is not finite.
    """
    if clients < 1:
        raise SettingError([("clients", f"expected a whole number >= 1, got {clients}")])
    if not 0 <= magnitude < inf:
        raise SettingError([("magnitude", f"expected a finite number >= 0, got {magnitude:g}")])
    most = clients * encoding.largest(magnitude)
    if most >= ring.half:
        needed = most.bit_length() + 1  # one for the sign
        reached = f"{clients} clients with values up to {magnitude:g} at {encoding.text} reach {most:.4g}"
        enough = f"2^{needed} or more" if needed <= WORD else f"a sum below 2^{WORD}"
        text = f"too small for the clients (overflow): expected {enough}, got 2^{ring.bits}"
        advice = "use fewer clients or a lower precision, or clip the values"
        raise ModulusError([("modulus", f"{text}: {reached}; {advice}")])
