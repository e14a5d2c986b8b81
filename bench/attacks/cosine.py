"""Inverting Gradients: Geiping et al. 2020. It minimises the angle between gradients, and total variation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case, Status
from leakbench.bench.attacks.optimised import Optimised, Stage, Terms
from leakbench.bench.attacks.regularised import EVERY, Regularised
from leakbench.bench.steppers import LockStepAdam, Stepper
from leakbench.bench.steppers.adam import Settings
from leakbench.core import citations
from leakbench.defenses import Gradients

RATE = 0.1  # of signed Adam, as in the paper
WEIGHTS = (0.1, 0.1, 0.03, 0.03, 0.01, 0.01)  # of total variation, relative to a distance in 0..2


@dataclass(frozen=True)
class Cosine(Regularised):
    """One minus the cosine between dummy and shared gradient (eq. 4), with no knowledge of the defense.

    `optimizer: adam` is the paper's: Adam on the signs of the gradient, pixels clamped to [0, 1], one
    weight of total variation. `lbfgs` uses the same distance in sigmoid space, with a falling weight.
    """

    name: ClassVar[str] = "cosine"
    citation: ClassVar[str] = citations.COSINE

    optimizer: Literal["lbfgs", "adam"] = "lbfgs"

    def weights(self, case: Case) -> Sequence[float]:
        """See `Regularised.weights`."""
        return WEIGHTS if self.optimizer == "lbfgs" else WEIGHTS[-1:] * len(WEIGHTS)

    def start(self, case: Case) -> Tensor:
        """See `Regularised.start`; scaled by the slope of the sigmoid at grey, a quarter."""
        return super().start(case) if self.optimizer == "lbfgs" else 0.5 + super().start(case) / 4

    def pixels(self, variable: Tensor) -> Tensor:
        """See `Optimised.pixels`."""
        return super().pixels(variable) if self.optimizer == "lbfgs" else variable

    def stepper(self, slots: int, size: int, device: torch.device, dtype: torch.dtype) -> Stepper:
        """See `Optimised.stepper`."""
        if self.optimizer == "lbfgs":
            return super().stepper(slots, size, device, dtype)
        settings = Settings(RATE, steps=self.evaluations, every=EVERY, box=(0.0, 1.0))
        return LockStepAdam(slots, size, settings, device, dtype)

    def ending(
        self, stage: Stage, losses: Sequence[float], largest: float, stuck: bool
    ) -> tuple[Status, str] | None:
        """See `Optimised.ending`; Adam continues if the loss stands still, as its rate will still drop."""
        cls = Regularised if self.optimizer == "lbfgs" else Optimised
        return cls.ending(self, stage, losses, largest, stuck)

    def distance(self, dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
        """See `Optimised.distance`."""
        inner = torch.stack([(each * shared[name]).sum() for name, each in dummy.items()]).sum()
        own = torch.stack([each.square().sum() for each in dummy.values()]).sum()
        other = torch.stack([each.square().sum() for each in shared.values()]).sum()
        return 1 - inner / (own * other + 1e-20).sqrt()
