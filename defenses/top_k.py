"""Top-k sparsification: Stich, Cordonnier and Jaggi 2018. Only the largest entries are sent."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from leakbench.core.citations import TOP_K
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.sparse import Sent, SparseByShare, as_vector, pieces_of, rounded_down, smallest_places


@dataclass(frozen=True)
class TopK(SparseByShare):
    """The k = max(1, floor(ratio * n)) entries of largest magnitude are sent; among equal ones, the first.

    n counts the entries of the whole gradient, as in the paper; k need not be whole there, so rounding down
    is our choice. With `error_feedback`, what was left out is added to the client's next gradient. A ratio of
    0.001 is that of Lin et al. 2018, whose momentum correction, clipping and warm-up are left out.
    """

    citation: ClassVar[str] = TOP_K
    name: ClassVar[str] = "top_k"
    grid: ClassVar[dict[str, list[Any]]] = {"ratio": [0.01, 0.001]}

    ratio: Sent = 0.01
    error_feedback: bool = True

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients with all but their largest entries set to zero."""
        vector = as_vector(gradients)
        largest = smallest_places(-vector.abs(), self._count(len(vector)))
        return pieces_of(torch.zeros_like(vector).index_copy(0, largest, vector[largest]), gradients)

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: fewer nonzero entries than k mean that the others were zero already."""
        sent = as_vector(shared) != 0
        kept = torch.ones_like(sent) if int(sent.sum()) < self._count(len(sent)) else sent
        return Account(kept=pieces_of(kept, shared))

    def _count(self, entries: int) -> int:
        return max(1, rounded_down(self.ratio, entries))
