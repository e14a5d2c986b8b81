"""The definition of a leak, used by every table and figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import ClassVar

from leakbench.core.configured import Configured


class Verdict(StrEnum):
    """How much of an image leaked: the bands of Figure 7 in the DLG paper."""

    LEAK = "leak"  # "Deep Leakage"
    ARTIFACTS = "artifacts"  # "Leak with artifacts"
    NONE = "no leak"


@dataclass(frozen=True)
class Scale(Configured):
    """The thresholds of SSIM: at `leak` or above the image leaked; below `artifacts` nothing of it did.

    The defaults were chosen by looking at images on both sides of them, which docs/STATISTICS.md shows.
    """

    name: ClassVar[str] = "verdicts"

    leak: float = 0.9
    artifacts: float = 0.2

    def problems(self) -> Iterator[tuple[str, str]]:
        """Thresholds must be in order, and values that SSIM can take."""
        if not self.leak <= 1:
            yield "leak", f"expected a number <= 1, got {self.leak:g}"
        if not -1 <= self.artifacts <= self.leak:
            yield "artifacts", f"expected a number in [-1, {self.leak:g}], got {self.artifacts:g}"

    def verdict(self, ssim: float) -> Verdict:
        """The verdict for the SSIM of an image, or for the median of several.

        Raises:
            ValueError: the SSIM is NaN: if nothing was measured, that does not mean that nothing leaked.
        """
        if isnan(ssim):
            raise ValueError("expected a number for the SSIM, got NaN")
        if ssim >= self.leak:
            return Verdict.LEAK
        return Verdict.ARTIFACTS if ssim >= self.artifacts else Verdict.NONE
