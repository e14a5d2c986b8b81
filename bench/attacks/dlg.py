"""Deep Leakage from Gradients: Zhu, Liu and Han, NeurIPS 2019, algorithm 1.

Symbols of the paper: x' are the dummy images, y' is the softmax of `label_logits`, D is the match loss.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

import torch
from torch import Tensor

from leakbench.bench.attacks import batched, reference
from leakbench.bench.attacks.base import Case, Observer, Resources, Start, Status, Steps
from leakbench.bench.attacks.optimised import Candidate, Optimised, Stage
from leakbench.bench.steppers import LockStepLBFGS, Stepper
from leakbench.bench.steppers.lbfgs import Settings
from leakbench.core import citations
from leakbench.core.ranges import NonNegative, Positive, Range

LARGEST = 1e38  # a rate that float32 holds


@dataclass(frozen=True)
class DLG(Optimised):
    """Optimises image and label together, with L-BFGS, until the dummy's gradient matches.

    The defaults are the authors': L-BFGS with all defaults of PyTorch, no line search, 300 outer
    steps of up to 20 iterations each. `engine: reference` is `torch.optim.LBFGS` itself, one trial
    at a time; `batched` runs the same algorithm for many trials in lock step.
    """

    name: ClassVar[str] = "dlg"
    citation: ClassVar[str] = citations.DLG

    steps: Steps = 300  # outer steps; the authors' `iters`
    lr: Annotated[float, Range(0, LARGEST, open=(0,))] = 1.0
    max_iter: Steps = 20  # L-BFGS iterations per outer step
    max_eval: Steps = 25  # function evaluations per outer step
    history: Annotated[int, Range(1, 10**4)] = 100  # pairs that L-BFGS stores
    tolerance_grad: NonNegative = 1e-7
    tolerance_change: NonNegative = 1e-9
    stop_loss: NonNegative = 1e-6  # converged below this, as in the code of iDLG (Zhao et al. 2020)
    pixel_limit: Positive = 1e3  # diverged above this: no run that exceeded it was ever seen to return
    init: Literal["normal", "uniform"] = "normal"  # the variables start at N(0, 1) or U(0, 1)
    parameterisation: Literal["raw", "sigmoid"] = "raw"  # whether a sigmoid maps variables to pixels
    engine: Literal["batched", "reference"] = "batched"

    @property
    def budget(self) -> int:
        """See `Attack.budget`."""
        return self.steps

    def with_budget(self, steps: int) -> Self:
        """See `Attack.with_budget`."""
        return replace(self, steps=steps)

    @property
    def evaluations(self) -> int:
        """See `Attack.evaluations`."""
        return self.steps * self.max_iter

    @property
    def lbfgs(self) -> Settings:
        """The optimiser's settings."""
        return Settings(
            self.lr, self.max_iter, self.max_eval, self.history, self.tolerance_grad, self.tolerance_change
        )

    def stepper(self, slots: int, size: int, device: torch.device, dtype: torch.dtype) -> Stepper:
        """See `Optimised.stepper`."""
        return LockStepLBFGS(slots, size, self.lbfgs, device, dtype)

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`: image and label are drawn, and optimised together."""
        start = case.start or Start.draw(case.spec, *case.purpose, uniform=self.init == "uniform")
        return [Candidate(start.images, start.label_logits, [Stage(self.steps)], free_labels=True)]

    def pixels(self, variable: Tensor) -> Tensor:
        """See `Optimised.pixels`."""
        return variable.sigmoid() if self.parameterisation == "sigmoid" else variable

    @property
    def in_lock_step(self) -> bool:
        """See `Attack.in_lock_step`."""
        return self.engine == "batched"

    def bytes_per_slot(self, example: Case, kind: str = "cpu") -> int:
        """See `Attack.bytes_per_slot`."""
        return super().bytes_per_slot(example, kind) if self.in_lock_step else 0

    def invert_many(self, cases: Iterator[Case], observe: Observer, resources: Resources) -> batched.Answers:
        """See `Attack.invert_many`."""
        engine = super().invert_many if self.in_lock_step else partial(reference.run, self)
        return engine(cases, observe, resources)

    def ending(
        self, stage: Stage, losses: Sequence[float], largest: float, stuck: bool
    ) -> tuple[Status, str] | None:
        """See `Optimised.ending`; L-BFGS has no further state that could move a `stuck` run."""
        step, loss = len(losses) - 1, losses[-1]
        if not math.isfinite(loss):
            return Status.DIVERGED, f"match loss became {loss} at step {step}"
        if loss < self.stop_loss:
            return Status.CONVERGED, f"match loss fell below {self.stop_loss:g} at step {step}"
        if not largest <= self.pixel_limit:
            return Status.DIVERGED, f"a pixel passed {self.pixel_limit:g} at step {step}"
        if stuck:
            return Status.CONVERGED, f"nothing moved any more from step {step} on"
        if step >= stage.steps:
            return Status.BUDGET, f"stopped at the limit of {stage.steps} steps"
        return None
