"""Attacks with a smoothness prior, which start from grey and read the labels off the gradient."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated, ClassVar, Self

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case, NotApplicableError, Status, Steps
from leakbench.bench.attacks.labels import readings
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.attacks.optimised import Candidate, Optimised, Stage, Terms
from leakbench.bench.posterior import total_variation
from leakbench.bench.steppers import HalvingLBFGS, Stepper
from leakbench.bench.steppers.lbfgs import Settings
from leakbench.core.ranges import Range

GREY = 0.1  # standard deviation of the start, before the sigmoid
EVERY = 5  # evaluations per outer step
STILL = 1e-3  # a stage ends if the objective falls by less than this share in WAIT outer steps (docs/LOG.md)
WAIT = 2


@dataclass(frozen=True)
class Regularised(Optimised, ABC):
    """Starts at grey in sigmoid space; the weight of total variation falls from stage to stage."""

    shares: ClassVar[tuple[float, ...]] = (0.12, 0.12, 0.16, 0.2, 0.2, 0.2)  # of the steps, per stage

    steps: Steps = 200  # outer steps, of EVERY evaluations each
    history: Annotated[int, Range(1, 10**4)] = 50  # pairs that L-BFGS stores

    @property
    def budget(self) -> int:
        """See `Attack.budget`."""
        return self.steps

    @property
    def evaluations(self) -> int:
        """See `Attack.evaluations`."""
        return self.steps * EVERY

    def with_budget(self, steps: int) -> Self:
        """See `Attack.with_budget`."""
        return replace(self, steps=steps)

    @abstractmethod
    def weights(self, case: Case) -> Sequence[float]:
        """The weights of total variation, one per stage."""

    def terms(self, case: Case) -> Terms:
        """Tensors in the objective that depend on the case."""
        return {}

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`: one per reading of the labels; without any, labels are optimised."""
        dtype = next(iter(case.shared.values())).dtype
        start = self.start(case).to(dtype)
        stages = self._stages(self.weights(case))
        terms = {**self.terms(case), "tv": torch.tensor(0.0)}
        try:
            layer = output_layer(case.model, case.spec)
        except NotApplicableError:
            logits = torch.zeros(case.spec.logit_shape, dtype=dtype)
            return [Candidate(start, logits, stages, terms, free_labels=True)]
        return [
            Candidate(start, certain(labels, case.spec.classes).to(dtype), stages, terms)
            for labels in readings(case, layer)
        ]

    def start(self, case: Case) -> Tensor:
        """The initial variables (N, C, H, W): nearly grey images."""
        return GREY * torch.randn(case.spec.batch_shape, generator=case.generator("start image"))

    def _stages(self, weights: Sequence[float]) -> list[Stage]:
        """The stages, whose steps sum to `steps`; equal weights are merged into one stage."""
        ends = [round(self.steps * share) for share in accumulate(self.shares, initial=0.0)]
        stages: list[Stage] = []
        for weight, (begin, end) in zip(weights, pairwise(ends), strict=True):
            if stages and stages[-1].terms["tv"] == weight:
                begin = end - (end - begin) - stages.pop().steps
            if end > begin:
                stages.append(Stage(end - begin, {"tv": weight}))
        return stages

    def pixels(self, variable: Tensor) -> Tensor:
        """See `Optimised.pixels`."""
        return variable.sigmoid()

    def penalty(self, images: Tensor, terms: Terms) -> Tensor:
        """See `Optimised.penalty`: weighted total variation."""
        return terms["tv"] * total_variation(images)

    def ending(
        self, stage: Stage, losses: Sequence[float], largest: float, stuck: bool
    ) -> tuple[Status, str] | None:
        """See `Optimised.ending`; a stage also ends if the objective hardly falls any more."""
        if len(losses) > WAIT and losses[-1] > (1 - STILL) * losses[-1 - WAIT]:
            return Status.CONVERGED, f"the objective fell by less than {STILL:g} of itself in {WAIT} steps"
        return super().ending(stage, losses, largest, stuck)

    def stepper(self, slots: int, size: int, device: torch.device, dtype: torch.dtype) -> Stepper:
        """See `Optimised.stepper`."""
        return HalvingLBFGS(slots, size, Settings(history_size=self.history), EVERY, device, dtype)


def certain(labels: Tensor, classes: int) -> Tensor:
    """Classes (N,) as logits (N, K) that give all probability to these classes."""
    logits = torch.full((len(labels), classes), -torch.inf)
    logits[torch.arange(len(labels)), labels] = 0
    return logits
