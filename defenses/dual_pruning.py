"""Dual gradient pruning: Xue et al. 2024. The largest and the smallest entries are not sent."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import DUAL_PRUNE
from leakbench.core.ranges import Share
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.sparse import Sparse, rounded_down, smallest_places


@dataclass(frozen=True)
class DualPrune(Sparse):
    """The floor(largest * n) largest and the floor(smallest * n) smallest of n entries become zero.

    n counts the entries of one tensor, and among equal ones the first is the smallest: both are choices of
    ours, as are the default shares. With `error_feedback`, what was left out is added to the client's next
    gradient. The paper's variant whose clients agree on the places (ADGP) is left out.
    """

    citation: ClassVar[str] = DUAL_PRUNE
    name: ClassVar[str] = "dual_prune"
    grid: ClassVar[dict[str, list[Any]]] = {"largest": [0.05], "smallest": [0.5, 0.75]}

    largest: Share = 0.05
    smallest: Share = 0.75
    error_feedback: bool = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Both together must leave something."""
        if self.strength >= 1:
            yield "", f"expected largest + smallest < 1, got {self.strength:g}"

    @property
    def strength(self) -> float:
        """The share of entries set to zero."""
        return self.largest + self.smallest

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """Each tensor with its largest and its smallest entries set to zero."""
        return {name: self._prune(gradient) for name, gradient in gradients.items()}

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: nobody can tell a zero that was pruned from one of the gradient's own."""
        return Account(kept={name: each != 0 for name, each in shared.items()})

    def _prune(self, gradient: Tensor) -> Tensor:
        sizes = gradient.flatten().abs()
        low, high = (rounded_down(share, len(sizes)) for share in (self.smallest, self.largest))
        largest = len(sizes) - 1 - smallest_places(-sizes.flip(0), high)  # among equal ones, the last
        dropped = torch.cat([smallest_places(sizes, low), largest])
        return gradient.flatten().index_fill(0, dropped, 0.0).view_as(gradient)
