"""Gradient pruning: Zhu et al. 2019, section 5.2. The smallest entries are set to zero."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from leakbench.core.citations import DLG
from leakbench.core.ranges import Share
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.sparse import as_vector, pieces_of, rounded_down, smallest_places
from leakbench.defenses.traffic import sparse_bytes


@dataclass(frozen=True)
class Prune(Defense):
    """The floor(ratio * n) entries of smallest magnitude become zero; among equal ones, the first.

    The paper does not say whether n counts one tensor or the whole gradient; `scope` decides. Of a word
    embedding's gradient most entries are zero already, and with `count: nonzero` they are not among the n.
    """

    citation: ClassVar[str] = DLG
    name: ClassVar[str] = "prune"
    grid: ClassVar[dict[str, list[Any]]] = {"ratio": [0.1, 0.5, 0.9]}

    ratio: Share
    scope: Literal["tensor", "global"] = "tensor"
    count: Literal["all", "nonzero"] = "all"

    @property
    def strength(self) -> float:
        """The ratio of entries set to zero."""
        return self.ratio

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients with their smallest entries set to zero, per tensor or over all tensors."""
        if self.scope == "tensor":
            return {name: self._prune(gradient) for name, gradient in gradients.items()}
        return pieces_of(self._prune(as_vector(gradients)), gradients)

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the zeros are the entries that were pruned.

        If there are more zeros than entries to prune, then the pruned entries were already zero, as these
        are the smallest, and every entry is unchanged. With `count: nonzero`, nobody can tell which zeros
        were pruned.
        """
        if self.scope == "tensor":
            return Account(kept={name: self._kept(each) for name, each in shared.items()})
        return Account(kept=pieces_of(self._kept(as_vector(shared)), shared))

    def _kept(self, shared: Tensor) -> Tensor:
        zero = shared == 0
        if self.count == "nonzero" and self.ratio:
            return ~zero
        return torch.ones_like(zero) if int(zero.sum()) > self._count(shared) else ~zero

    def sent_bytes(self, shared: Gradients) -> int:
        """The size of a sparse format; see `sparse_bytes`."""
        return sparse_bytes(shared)

    def _count(self, gradient: Tensor) -> int:
        counted = gradient.numel() if self.count == "all" else int(gradient.count_nonzero())
        return rounded_down(self.ratio, counted)

    def _prune(self, gradient: Tensor) -> Tensor:
        flat = gradient.flatten()
        if self.count == "all":
            pruned = smallest_places(flat.abs(), self._count(gradient))
        else:
            counted = flat.nonzero()[:, 0]
            pruned = counted[smallest_places(flat[counted].abs(), self._count(gradient))]
        return flat.index_fill(0, pruned, 0.0).view_as(gradient)
