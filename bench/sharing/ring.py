"""Whole numbers mod 2^bits in int64 tensors, whose arithmetic wraps around at 2^64 by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.core.configured import SettingError

WORD = 64  # bits of an int64
FEWEST = 8


@dataclass(frozen=True)
class Ring:
    """The whole numbers mod 2^bits. Each is stored as its representative in [-2^(bits-1), 2^(bits-1)).

    Raises:
        SettingError: bits outside 8..64.
    """

    bits: int = WORD

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not FEWEST <= self.bits <= WORD:
            text = f"expected a whole number in {FEWEST}..{WORD}, got {self.bits!r}"
            raise SettingError([("bits", text)])

    @property
    def half(self) -> int:
        """What magnitudes have to stay below so that none wraps around: 2^(bits-1)."""
        return 1 << (self.bits - 1)

    def wrap(self, words: Tensor) -> Tensor:
        """The representatives of any int64 words; what is computed with them may be wrapped in the end."""
        unused = WORD - self.bits
        return (words << unused) >> unused  # the right shift copies the sign bit

    def sum(self, words: Tensor) -> Tensor:
        """The sum over the first dimension of (N, *shape)."""
        return self.wrap(words.sum(0))

    def uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Elements of which every one is equally likely, independent of each other."""
        # torch.randint's upper bound is exclusive and at most 2^63 - 1; no bound at all means 2^63
        words = torch.empty(tuple(shape), dtype=torch.int64)
        return self.wrap(words.random_(-(1 << (WORD - 1)), None, generator=generator))
