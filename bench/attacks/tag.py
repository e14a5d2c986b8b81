"""TAG (Deng et al. 2021): DLG for texts, with an L1 distance added, which counts small entries more."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from leakbench.bench.attacks.dlg_text import DLGText, Size
from leakbench.core import citations
from leakbench.core.ranges import NonNegative


@dataclass(frozen=True)
class TAG(DLGText):
    """As `dlg-text`, with alpha |a - b|_1 / |b|_1 added to the distance of each tensor."""

    name: ClassVar[str] = "tag"
    citation: ClassVar[str] = citations.TAG

    alpha: NonNegative = 0.01

    def distance(self, apart: Tensor, size: Size) -> Tensor:
        """See `DLGText.distance`."""
        return super().distance(apart, size) + self.alpha * apart.abs().sum() / size.absolute
