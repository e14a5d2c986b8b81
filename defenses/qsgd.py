"""QSGD: Alistarh et al. 2017. Stochastic rounding to a few levels of the norm."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from leakbench.core.citations import QSGD as PAPER
from leakbench.core.ranges import Count
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.rounding import least, mean_square, rounded
from leakbench.defenses.traffic import elias_bytes


@dataclass(frozen=True)
class QSGD(Defense):
    """|g_i| becomes one of the two multiples of |g|_2 / levels next to it, at random and without bias.

    Each tensor has its own norm; the paper's buckets, pieces of a tensor with a norm each, are left out.
    """

    citation: ClassVar[str] = PAPER
    name: ClassVar[str] = "qsgd"
    grid: ClassVar[dict[str, list[Any]]] = {"levels": [4, 16, 128]}

    levels: Count

    @property
    def strength(self) -> float:
        """1 / levels."""
        return 1 / self.levels

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """Each gradient rounded to multiples of its norm / levels."""
        steps = {name: each.double().norm() / self.levels for name, each in gradients.items()}
        return {name: rounded(each, steps[name], generator) for name, each in gradients.items()}

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`."""
        return self.account_of_rounds(shared, 1)

    def account_of_rounds(self, shared: Gradients, rounds: int) -> Account:
        """An entry moves by at most a step, which is at most `rounds` times the least nonzero entry.

        Nothing is known of a tensor that was rounded to zeros.
        """
        steps = {name: rounds * least(each) for name, each in shared.items()}
        bounds = {name: torch.full_like(each, steps[name]) for name, each in shared.items()}
        squares = {name: mean_square(each, steps[name], rounds) for name, each in shared.items()}
        return Account({name: each > 0 for name, each in bounds.items()}, 0.0, bounds, mean_squares=squares)

    def sent_bytes(self, shared: Gradients) -> int:
        """The paper's encoding; see `elias_bytes`."""
        return sum(elias_bytes(each, self.levels) for each in shared.values())
