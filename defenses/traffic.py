"""The size of a gradient when it is sent, in bytes."""

from leakbench.defenses.base import Gradients

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
