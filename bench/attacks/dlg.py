"""Deep Leakage from Gradients: Zhu, Liu and Han, NeurIPS 2019, algorithm 1.

The reference engine: `torch.optim.LBFGS` run as the authors' code runs it, one trial at a time.
Symbols of the paper: x' is `image`, y' is softmax(`label_logits`), D is the match loss.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bench.attacks.base import Attack, Observer, Reconstruction, Start, Status
from bench.gradients import match_loss
from defenses import Gradients


@dataclass(frozen=True)
class DLG(Attack):
    """Image and label optimised together, by L-BFGS, until the dummy's gradient matches.

    The defaults are the authors': L-BFGS with every default of PyTorch, no line search, 300 outer
    steps of up to 20 iterations each.
    """

    name: ClassVar[str] = "dlg"

    steps: int = 300  # outer steps; the authors' `iters`
    lr: float = 1.0
    max_iter: int = 20  # L-BFGS iterations an outer step
    max_eval: int = 25  # function evaluations an outer step
    history: int = 100  # pairs that L-BFGS remembers
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    stop_loss: float = 1e-6  # converged below it, as in the code of iDLG (Zhao et al. 2020)
    pixel_limit: float = 1e3  # diverged beyond it: no run that passed it was ever seen to return

    def problems(self) -> Iterator[tuple[str, str]]:
        """Counts of at least 1, rates and limits above 0, tolerances not below it."""
        for setting in ("steps", "max_iter", "max_eval", "history"):
            if getattr(self, setting) < 1:
                yield setting, f"expected a whole number >= 1, got {getattr(self, setting)}"
        for setting in ("lr", "pixel_limit"):
            if getattr(self, setting) <= 0:
                yield setting, f"expected a number > 0, got {getattr(self, setting):g}"
        for setting in ("tolerance_grad", "tolerance_change", "stop_loss"):
            if getattr(self, setting) < 0:
                yield setting, f"expected a number >= 0, got {getattr(self, setting):g}"

    def reconstruct(
        self, model: nn.Module, shared: Gradients, start: Start, observe: Observer
    ) -> Reconstruction:
        """See `Attack.reconstruct`."""
        dummy = Dummy(model, shared, start)
        optimizer = self._optimizer(dummy)
        history = [dummy.evaluate()]
        observe(0, dummy.image.detach())
        ended = self._ended(dummy, history)
        while ended is None:
            before = dummy.image.detach().clone(), dummy.label_logits.detach().clone()
            optimizer.step(dummy.closure)
            history.append(dummy.evaluate())
            observe(len(history) - 1, dummy.image.detach())
            stuck = torch.equal(before[0], dummy.image) and torch.equal(before[1], dummy.label_logits)
            ended = self._ended(dummy, history, stuck)
        return Reconstruction(*dummy.best, history, *ended)

    def _optimizer(self, dummy: "Dummy") -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [dummy.image, dummy.label_logits],
            lr=self.lr,
            max_iter=self.max_iter,
            max_eval=self.max_eval,
            history_size=self.history,
            tolerance_grad=self.tolerance_grad,
            tolerance_change=self.tolerance_change,
        )

    def _ended(self, dummy: "Dummy", history: list[float], stuck: bool = False) -> tuple[Status, str] | None:
        """How and why the attack ends after this outer step; None where it goes on."""
        step, loss = len(history) - 1, history[-1]
        largest = float(dummy.image.detach().abs().max())
        if not math.isfinite(loss):
            return Status.DIVERGED, f"match loss became {loss} at step {step}"
        if loss < self.stop_loss:
            return Status.CONVERGED, f"match loss fell below {self.stop_loss:g} at step {step}"
        if not largest <= self.pixel_limit:
            return Status.DIVERGED, f"a pixel passed {self.pixel_limit:g} at step {step}"
        if stuck:
            # L-BFGS keeps no other state that could move it: every later step would be the same
            return Status.CONVERGED, f"nothing moved any more from step {step} on"
        if step >= self.steps:
            return Status.BUDGET, f"stopped at the limit of {self.steps} steps"
        return None


class Dummy:
    """The image and label being optimised, their match loss, and the best of them so far."""

    def __init__(self, model: nn.Module, shared: Gradients, start: Start):
        self.model = model
        self.shared = shared
        self.image = start.image.clone().requires_grad_()  # (C, H, W)
        self.label_logits = start.label_logits.clone().requires_grad_()  # (K,)
        self.best: tuple[Tensor, Tensor, float] = (start.image, start.label_logits, math.inf)

    def closure(self) -> Tensor:
        """The match loss, with its gradient left in `image` and `label_logits`."""
        loss = match_loss(self.model, self.shared, self.image, self.label_logits, create_graph=True)
        inputs = (self.image, self.label_logits)
        self.image.grad, self.label_logits.grad = torch.autograd.grad(loss, inputs)
        self._remember(float(loss.detach()))
        return loss.detach()

    def evaluate(self) -> float:
        """The match loss alone."""
        loss = float(match_loss(self.model, self.shared, self.image, self.label_logits, create_graph=False))
        self._remember(loss)
        return loss

    def _remember(self, loss: float) -> None:
        if loss < self.best[2]:
            self.best = (self.image.detach().clone(), self.label_logits.detach().clone(), loss)
