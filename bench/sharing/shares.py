"""Additive secret shares: n uniform ring elements whose sum is the secret; any n - 1 tell nothing."""

import torch
from torch import Tensor

from leakbench.bench.sharing.ring import Ring
from leakbench.core.configured import SettingError


def share(values: Tensor, parties: int, ring: Ring, generator: torch.Generator) -> Tensor:
    """One share for each party: (parties, *shape) int64, from values (*shape) int64.

    Shares of sums are sums of shares: add them up, and wrap with the ring.

    Args:
        values: ring elements, or any int64 words, which count mod 2^bits.
        parties: how many, at least 2.
        ring: what they are elements of.
        generator: of the first parties' shares. It decides how secret the values are: one of PyTorch's
            repeats its draws from a seed and is meant for simulations.

    Raises:
        SettingError: fewer than 2 parties.
    """
    if parties < 2:
        raise SettingError([("parties", f"expected a whole number >= 2, got {parties}")])
    masks = ring.uniform((parties - 1, *values.shape), generator)
    last = ring.wrap(values - masks.sum(0))
    return torch.cat([masks, last[None]])


def reconstruct(shares: Tensor, ring: Ring) -> Tensor:
    """The values (*shape) of shares (parties, *shape), all of them."""
    return ring.sum(shares)
