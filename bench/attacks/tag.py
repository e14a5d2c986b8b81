"""TAG (Deng et al. 2021): DLG for texts, with an L1 distance added, which counts small entries more."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.bench.attacks.dlg_text import DLGText
from leakbench.core import citations
from leakbench.core.ranges import NonNegative
from leakbench.defenses import Gradients


@dataclass(frozen=True)
class TAG(DLGText):
    """As `dlg-text`, with alpha |a - b|_1 / |b|_1 added to the distance of each tensor."""

    name: ClassVar[str] = "tag"
    citation: ClassVar[str] = citations.TAG

    alpha: NonNegative = 0.01

    def distance(self, dummy: Gradients, shared: Gradients) -> Tensor:
        """See `DLGText.distance`."""
        apart = [(each - shared[name]).abs().sum() / shared[name].abs().sum() for name, each in dummy.items()]
        return super().distance(dummy, shared) + self.alpha * torch.stack(apart).mean()
