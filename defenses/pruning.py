"""Gradient pruning: Zhu et al. 2019, section 5.2. The smallest entries are set to zero."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from defenses.base import Defense, Gradients
from defenses.citations import DLG
from defenses.traffic import sparse_bytes


@dataclass(frozen=True)
class Prune(Defense):
    """floor(ratio * n) entries of smallest magnitude become zero; of equal ones, the first.

    The paper does not say whether n counts one tensor or the whole gradient: `scope` decides.
    """

    citation: ClassVar[str] = DLG
    name: ClassVar[str] = "prune"
    grid: ClassVar[dict[str, list[Any]]] = {"ratio": [0.1, 0.5, 0.9]}

    ratio: float
    scope: Literal["tensor", "global"] = "tensor"

    def problems(self) -> Iterator[tuple[str, str]]:
        """A ratio of 1 would share nothing."""
        if not 0 <= self.ratio < 1:
            yield "ratio", f"expected a number in [0, 1), got {self.ratio:g}"

    @property
    def strength(self) -> float:
        """The ratio of entries set to zero."""
        return self.ratio

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients with their smallest entries zeroed, per tensor or over all of them."""
        if self.scope == "tensor":
            return {name: self._prune(gradient) for name, gradient in gradients.items()}
        pruned = self._prune(torch.cat([gradient.flatten() for gradient in gradients.values()]))
        pieces = pruned.split([gradient.numel() for gradient in gradients.values()])
        return {
            name: piece.view_as(gradient)
            for (name, gradient), piece in zip(gradients.items(), pieces, strict=True)
        }

    def sent_bytes(self, shared: Gradients) -> int:
        """See `sparse_bytes`."""
        return sparse_bytes(shared)

    def _prune(self, gradient: Tensor) -> Tensor:
        # 1e-9 because 0.29 * 100 is 28.999999999999996 in binary
        count = int(self.ratio * gradient.numel() + 1e-9)
        smallest = gradient.abs().flatten().argsort(stable=True)[:count]
        return gradient.flatten().index_fill(0, smallest, 0.0).view_as(gradient)
