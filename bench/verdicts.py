"""The definition of a leak, used by every table and figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import isnan
from typing import ClassVar

from leakbench.bench.modalities import IMAGES, MODALITIES, Modality
from leakbench.core.configured import Configured


class Verdict(StrEnum):
    """How much of an image, or of a text, leaked: the bands of Figure 7 in the DLG paper."""

    LEAK = "leak"  # "Deep Leakage"
    ARTIFACTS = "artifacts"  # "Leak with artifacts"
    NONE = "no leak"


@dataclass(frozen=True)
class Scale(Configured):
    """The thresholds of SSIM: at `leak` or above the image leaked; below `artifacts` nothing of it did.

    The defaults were chosen by looking at images on both sides of them, which docs/STATISTICS.md shows. Of
    texts it is ROUGE-L that counts: a bag of the right words in a wrong order reaches 0.2 to 0.35.
    """

    name: ClassVar[str] = "verdicts"

    leak: float = IMAGES.leak
    artifacts: float = IMAGES.artifacts
    kind: str = IMAGES.name  # of examples, of MODALITIES

    @property
    def modality(self) -> Modality:
        """The kind of examples that the scores are of."""
        return MODALITIES[self.kind]

    @property
    def column(self) -> str:
        """The column of a row that decides."""
        return self.modality.leading

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.modality.title

    def problems(self) -> Iterator[tuple[str, str]]:
        """Thresholds must be in order, and values that SSIM can take."""
        if not self.leak <= 1:
            yield "leak", f"expected a number <= 1, got {self.leak:g}"
        if not -1 <= self.artifacts <= self.leak:
            yield "artifacts", f"expected a number in [-1, {self.leak:g}], got {self.artifacts:g}"

    def verdict(self, score: float) -> Verdict:
        """The verdict for the SSIM (or ROUGE-L) of one example, or for the median of several.

        Raises:
            ValueError: it is NaN: if nothing was measured, that does not mean that nothing leaked.
        """
        if isnan(score):
            raise ValueError(f"expected a number for the {self.title}, got NaN")
        if score >= self.leak:
            return Verdict.LEAK
        return Verdict.ARTIFACTS if score >= self.artifacts else Verdict.NONE
