"""Ranges of settings, declared with their types: `ratio: Share` takes numbers in [0, 1)."""

from dataclasses import dataclass
from math import inf
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`, without those of `open`; it prints as `>= 1` or `in [0, 1)`."""

    least: float = -inf
    most: float = inf
    open: tuple[float, ...] = ()

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and value not in self.open

    def __str__(self) -> str:
        if self.most == inf:
            return f"{'>' if self.least in self.open else '>='} {self.least}"
        if self.least == -inf:
            return f"{'<' if self.most in self.open else '<='} {self.most}"
        first, last = "(" if self.least in self.open else "[", ")" if self.most in self.open else "]"
        return f"in {first}{self.least}, {self.most}{last}"


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, open=(0,))]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1, open=(1,))]  # of what is left out, so that something is left
Unit = Annotated[float, Range(0, 1)]
