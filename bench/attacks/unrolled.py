"""Leakage in federated averaging: Dimitrov et al. 2022. The dummy goes through the client's own steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.bench.attacks.adaptive import FREE, Adaptive, is_scaled
from leakbench.bench.attacks.base import Case, Knows
from leakbench.bench.attacks.optimised import Candidate, Optimised, Terms
from leakbench.bench.attacks.regularised import Regularised
from leakbench.core import citations


@dataclass(frozen=True)
class Unrolled(Adaptive):
    """`adaptive`, but the dummy's update is what the client's local steps would make of it.

    It knows how many steps the client takes, and at which rate, but not which images are in which step:
    these are taken in the order of their labels.
    """

    name: ClassVar[str] = "unrolled"
    citation: ClassVar[str] = citations.UNROLLED
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.DEFENSE, Knows.PROTOCOL})

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        if example.protocol is None or example.protocol.steps == 1:
            return "expected an update after several local steps, got one after a single one: see `adaptive`"
        if not example.protocol.is_smooth:
            return "expected local steps of sgd, got those of adam, whose slope in the images is of no use"
        return ""

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`; a residual is that of one step."""
        return Regularised.candidates(self, case)

    def matching(self, case: Case) -> Terms:
        """See `Adaptive.matching`: the scale is known unless the defense hides it."""
        return {FREE: torch.tensor(float(is_scaled(case)))}

    def training_loss(self, scores: Tensor, labels: Tensor, terms: Terms) -> Tensor:
        """See `Optimised.training_loss`."""
        return Optimised.training_loss(self, scores, labels, terms)
