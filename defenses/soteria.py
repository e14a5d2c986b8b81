"""Soteria: Sun et al. 2021. The last layer's gradient is masked for features that would reveal the image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from leakbench.core.citations import SOTERIA
from leakbench.core.ranges import Share
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.features import last_matrix, revealing_features
from leakbench.defenses.sparse import rounded_down, smallest_places
from leakbench.defenses.traffic import bitmap_bytes


@dataclass(frozen=True)
class Soteria(Defense):
    """No gradient for the floor(ratio * F) features r of least |dr/dX| / (|r| + 0.1), summed over the batch.

    The paper leaves the layer open. As in the authors' code, r (N, F) is the input of the last nn.Linear,
    whose weight gets no gradient for them; like there, ReLU features that are 0 are the first to go.
    """

    citation: ClassVar[str] = SOTERIA
    name: ClassVar[str] = "soteria"
    grid: ClassVar[dict[str, list[Any]]] = {"ratio": [0.01, 0.6]}

    ratio: Share

    @property
    def strength(self) -> float:
        """The share of features without a gradient."""
        return self.ratio

    def apply_knowing(
        self, gradients: Gradients, network: nn.Module, images: Tensor, labels: Tensor, generator: Generator
    ) -> Gradients:
        """See `Defense.apply_knowing`."""
        layer, revealing = revealing_features(network, images)
        dropped = smallest_places(revealing, rounded_down(self.ratio, len(revealing)))
        name = next(name for name, each in network.named_parameters() if each is layer.weight)
        return {
            own: each.index_fill(1, dropped, 0.0) if own == name else each.clone()
            for own, each in gradients.items()
        }

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: of the last matrix, columns of zeros may have been masked."""
        name = last_matrix(shared)
        kept = {own: torch.ones_like(each, dtype=torch.bool) for own, each in shared.items()}
        return Account(kept=kept | {name: shared[name].any(0).expand_as(shared[name]).clone()})

    def sent_bytes(self, shared: Gradients) -> int:
        """All entries but those columns, and a bitmap of these."""
        matrix = shared[last_matrix(shared)]
        zeros = int((~matrix.any(0)).sum()) * len(matrix) * matrix.element_size()
        return super().sent_bytes(shared) - zeros + bitmap_bytes(matrix.shape[1])
