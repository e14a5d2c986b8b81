"""The reference engine: `torch.optim.LBFGS` run as the DLG authors' code runs it, one trial at a time.

It is what the batched engine is tested against.
"""

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.attacks.base import Case, Found, Observer, Resources
from bench.gradients import match_loss

if TYPE_CHECKING:
    from bench.attacks.dlg import DLG


def run(
    attack: "DLG", cases: Iterator[Case], observe: Observer, resources: Resources
) -> Iterator[tuple[int, Found]]:
    """See `Attack.invert_many`; one case at a time, whatever the slots."""
    for case in cases:
        yield case.number, invert(attack, case, observe, resources.device)


def invert(attack: "DLG", case: Case, observe: Observer, device: str) -> Found:
    """Attack one case."""
    began = time.perf_counter()
    dummy = Dummy(attack, case, device)
    optimizer = torch.optim.LBFGS([dummy.variable, dummy.label_logits], **asdict(attack.lbfgs))
    history: list[float] = []
    ended, stuck = None, False
    while ended is None:
        history.append(dummy.evaluate())
        images = dummy.images.detach()
        step = len(history) - 1
        observe([case.number], [step], images[None])
        ended = attack.ending(step, history[-1], float(images.abs().max()), stuck)
        if ended is None:
            before = [variable.detach().clone() for variable in dummy.variables]
            optimizer.step(dummy.closure)
            stuck = all(map(torch.equal, before, dummy.variables))
    variable, label_logits, loss = dummy.best
    images = attack.pixels(variable).cpu()
    seconds = time.perf_counter() - began
    return Found(images, label_logits.cpu(), loss, history, *ended, seconds)


class Dummy:
    """The images and labels being optimised, their match loss, and the best of them so far."""

    def __init__(self, attack: "DLG", case: Case, device: str):
        self.attack = attack
        self.model = deepcopy(case.model).to(device)
        self.shared = {name: gradient.to(device) for name, gradient in case.shared.items()}
        start = attack.start_of(case)
        self.variable = start.images.to(device, copy=True).requires_grad_()  # (N, C, H, W)
        self.label_logits = start.label_logits.to(device, copy=True).requires_grad_()  # (N, K)
        self.variables = (self.variable, self.label_logits)
        self.best: tuple[Tensor, Tensor, float] = (start.images, start.label_logits, math.inf)

    @property
    def images(self) -> Tensor:
        """The dummy images (N, C, H, W)."""
        return self.attack.pixels(self.variable)

    def closure(self) -> Tensor:
        """The match loss, with its gradient left in the variables."""
        loss = match_loss(self.model, self.shared, self.images, self.label_logits, create_graph=True)
        self.variable.grad, self.label_logits.grad = torch.autograd.grad(loss, self.variables)
        self._remember(float(loss.detach()))
        return loss.detach()

    def evaluate(self) -> float:
        """The match loss alone."""
        loss = match_loss(self.model, self.shared, self.images, self.label_logits, create_graph=False)
        self._remember(float(loss.detach()))
        return float(loss.detach())

    def _remember(self, loss: float) -> None:
        if loss < self.best[2]:
            self.best = (self.variable.detach().clone(), self.label_logits.detach().clone(), loss)
