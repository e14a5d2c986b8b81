"""Random sparsification: Wangni et al. 2018. Large entries are more likely to be sent, without bias."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import RANDOM_SPARSIFY
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.rounding import least, mean_square
from leakbench.defenses.sparse import SparseByShare, as_vector, pieces_of

CLOSE = 1e-5  # relative: entries of this size are those that share their magnitude


@dataclass(frozen=True)
class RandomSparsify(SparseByShare):
    """g_i / p_i with probability p_i, else 0; on average ratio * n of the n entries of the whole gradient.

    p is that of the greedy algorithm 3, carried on to its end: proportional to |g_i|, but at most 1.
    """

    citation: ClassVar[str] = RANDOM_SPARSIFY
    name: ClassVar[str] = "random_sparsify"
    grid: ClassVar[dict[str, list[Any]]] = {"ratio": [0.1, 0.01]}

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """See the class."""
        vector = as_vector(gradients).double()
        chance = probabilities(vector.abs(), self.ratio)
        drawn = torch.rand(len(vector), dtype=torch.float64, generator=generator) < chance
        sent = torch.where(drawn, vector / chance.clamp(min=1e-300), 0.0)
        return pieces_of(sent.to(next(iter(gradients.values())).dtype), gradients)

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`."""
        return self.account_of_rounds(shared, 1)

    def account_of_rounds(self, shared: Gradients, rounds: int) -> Account:
        """All entries of p < 1 are sent as one magnitude, above their own; what is larger than it is exact.

        It is at most `rounds` times the least nonzero entry of the mean, and the most that they are off.
        """
        sizes = as_vector(shared).abs()
        most = rounds * least(sizes)
        bound = most * (sizes <= most * (1 + CLOSE)).to(sizes.dtype)
        kept = torch.full_like(sizes, most > 0, dtype=torch.bool)
        rounded = pieces_of(sizes * (bound > 0), shared)
        squares = {name: mean_square(each, most, rounds) for name, each in rounded.items()}
        return Account(pieces_of(kept, shared), 0.0, pieces_of(bound, shared), mean_squares=squares)


def probabilities(sizes: Tensor, ratio: float) -> Tensor:
    """Those of magnitudes (n,), in [0, 1], whose sum is ratio * n unless fewer are above 0."""
    total, budget = sizes.sum(), ratio * len(sizes)
    chance = (budget * sizes / total.clamp(min=1e-300)).clamp(max=1)
    while True:
        active = (chance < 1) & (sizes > 0)
        rest = chance[active].sum()
        factor = (budget - int((chance == 1).sum())) / float(rest) if len(chance[active]) else 1.0
        if factor <= 1 + 1e-12:
            return chance
        chance = torch.where(active, (factor * chance).clamp(max=1), chance)
