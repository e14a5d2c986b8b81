"""How many bytes a gradient takes when it is sent."""

from leakbench.defenses.base import Gradients

INDEX_BYTES = 4
BITS = 8  # a byte


def sparse_bytes(shared: Gradients) -> int:
    """Only what is not zero, and where it is: by its index or in a bitmap, whichever is smaller.

    Each tensor by itself; one that hardly holds a zero is sent whole.
    """
    total = 0
    for gradient in shared.values():
        size, kept = gradient.numel(), int(gradient.count_nonzero())
        values = kept * gradient.element_size()
        total += min(values + kept * INDEX_BYTES, values + bitmap_bytes(size), size * gradient.element_size())
    return total


def bitmap_bytes(entries: int) -> int:
    """A bit for each of so many entries, in whole bytes."""
    return -(-entries // BITS)
