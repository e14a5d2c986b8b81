"""What counts as a leak: defined once, for every table and figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import ClassVar

from leakbench.core.configured import Configured


class Verdict(StrEnum):
    """How much of a picture leaked: the bands of the DLG paper's Figure 7."""

    LEAK = "leak"  # "Deep Leakage"
    ARTIFACTS = "artifacts"  # "Leak with artifacts"
    NONE = "no leak"


@dataclass(frozen=True)
class Scale(Configured):
    """The SSIM from which on a reconstruction is the picture, and below which it shows nothing of it.

    The defaults were set by looking at pictures on both sides: docs/STATISTICS.md shows them.
    """

    name: ClassVar[str] = "verdicts"

    leak: float = 0.9
    artifacts: float = 0.2

    def problems(self) -> Iterator[tuple[str, str]]:
        """Both in order, and values that SSIM can take."""
        if not self.leak <= 1:
            yield "leak", f"expected a number <= 1, got {self.leak:g}"
        if not -1 <= self.artifacts <= self.leak:
            yield "artifacts", f"expected a number in [-1, {self.leak:g}], got {self.artifacts:g}"

    def verdict(self, ssim: float) -> Verdict:
        """Of a picture, or of the median of several.

        Raises:
            ValueError: NaN, which is no score: that nothing was measured does not mean that nothing leaked.
        """
        if isnan(ssim):
            raise ValueError("expected an SSIM to judge by, got NaN")
        if ssim >= self.leak:
            return Verdict.LEAK
        return Verdict.ARTIFACTS if ssim >= self.artifacts else Verdict.NONE
