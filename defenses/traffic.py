"""The size of a gradient when it is sent, in bytes."""

import torch
from torch import Tensor

from leakbench.defenses.account import Gradients

INDEX_BYTES = 4
BITS = 8  # per byte


def sparse_bytes(shared: Gradients) -> int:
    """The bytes of all nonzero entries and their places, as indices or as a bitmap, whichever is smaller.

    Each tensor is encoded separately; one with hardly any zeros is sent in full.
    """
    total = 0
    for gradient in shared.values():
        size, kept = gradient.numel(), int(gradient.count_nonzero())
        values = kept * gradient.element_size()
        total += min(values + kept * INDEX_BYTES, values + bitmap_bytes(size), size * gradient.element_size())
    return total


def bitmap_bytes(entries: int) -> int:
    """The bytes of a bitmap with one bit per entry."""
    return -(-entries // BITS)


def elias_bytes(shared: Tensor, levels: int) -> int:
    """The bytes of a gradient on multiples of its norm / levels, by the codes of Alistarh et al. 2017.

    A float32 for the norm, and the shorter of two: for every nonzero entry its distance from the one before
    it, its sign and its level (`Code_s`), or for all entries their level and the sign of those above 0. Whole
    numbers are in Elias omega code.
    """
    sizes = shared.flatten().abs().double()
    places = sizes.nonzero()[:, 0]
    if not len(places):
        return 4
    # the least nonzero entry is a multiple of the step, most often the step itself
    level = (sizes / sizes[places].min()).round().clamp(max=levels).long()
    gaps = places.diff(prepend=places.new_full((1,), -1))
    by_place = int((_omega_bits(gaps) + _omega_bits(level[places])).sum())
    all_in_turn = int(_omega_bits(level + 1).sum())
    return 4 + bitmap_bytes(min(by_place, all_in_turn) + len(places))


def _omega_bits(numbers: Tensor) -> Tensor:
    """The length in bits of whole numbers >= 1 in Elias omega code."""
    bits, left = torch.ones_like(numbers), numbers
    while bool((left > 1).any()):
        length = left.double().log2().floor().long() + 1  # in binary
        bits = bits + torch.where(left > 1, length, 0)
        left = torch.where(left > 1, length - 1, 1)
    return bits
