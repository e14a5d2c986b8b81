"""The reference engine: `torch.optim.LBFGS` as in the DLG authors' code, one trial at a time.

The batched engine is tested against it.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case, Found, Observer, Resources
from leakbench.bench.gradients import trained_parameters

if TYPE_CHECKING:
    from leakbench.bench.attacks.dlg import DLG
    from leakbench.bench.attacks.optimised import Candidate, Optimised


def run(
    attack: "DLG", cases: Iterator[Case], observe: Observer, resources: Resources
) -> Iterator[tuple[int, Found]]:
    """See `Attack.invert_many`; one case at a time, whatever the number of slots."""
    for case in cases:
        yield case.number, invert(attack, case, observe, resources.device)


def invert(attack: "DLG", case: Case, observe: Observer, device: str) -> Found:
    """Attack one case, from each of its candidates."""
    began = time.perf_counter()
    best: Found | None = None
    candidates = attack.candidates(case)
    for candidate in candidates:
        seen: list[tuple[Tensor, Tensor | None]] = []

        def tell(step: int, dummy: "Dummy", seen: list[tuple[Tensor, Tensor | None]] = seen) -> None:
            labels = dummy.labels.detach()[None] if candidates[0].free_labels else None
            if len(candidates) == 1:
                observe([case.number], [step], dummy.images.detach()[None], labels)
            else:
                seen.append((dummy.images.detach()[None], labels))  # reported only if this candidate wins

        found = follow(attack, case, candidate, tell, device)
        if best is None or (found.objective or 0) < (best.objective or 0):
            best, shown = found, seen
    assert best is not None
    for step, (images, labels) in enumerate(shown):
        observe([case.number], [step], images, labels)
    return replace(best, seconds=time.perf_counter() - began)


def follow(
    attack: "DLG", case: Case, candidate: "Candidate", tell: Callable[[int, "Dummy"], None], device: str
) -> Found:
    """Optimise one candidate; `tell` receives the number of outer steps and the dummy after each."""
    dummy = Dummy(attack, case, candidate, device)
    optimizer = torch.optim.LBFGS(dummy.variables, **asdict(attack.lbfgs))
    history: list[float] = []
    ended, stuck = None, False
    while ended is None:
        history.append(dummy.evaluate())
        tell(len(history) - 1, dummy)
        largest = float(dummy.images.detach().abs().max())
        ended = attack.ending(candidate.stages[0], history, largest, stuck)
        if ended is None:
            before = [variable.detach().clone() for variable in dummy.variables]
            optimizer.step(dummy.closure)
            stuck = all(map(torch.equal, before, dummy.variables))
    loss, (variable, *labels) = dummy.best
    found = labels[0].cpu() if candidate.free_labels else candidate.labels.argmax(-1)
    return Found(attack.pixels(variable).cpu(), found, loss, history, *ended)


class Dummy:
    """The variables of one run, their objective, and the best values so far."""

    def __init__(self, attack: "Optimised", case: Case, candidate: "Candidate", device: str):
        self.attack = attack
        self.model = deepcopy(case.model).to(device)
        self.shared = {name: gradient.to(device) for name, gradient in case.shared.items()}
        self.terms = {name: each.to(device) for name, each in candidate.terms.items()}
        self.labels = candidate.labels.to(device, copy=True)  # (N, K)
        self.variables = [candidate.images.to(device, copy=True)]  # (N, C, H, W)
        if candidate.free_labels:
            self.variables.append(self.labels)
        for variable in self.variables:
            variable.requires_grad_()
        self.best: tuple[float, list[Tensor]] = (math.inf, [each.detach() for each in self.variables])

    @property
    def images(self) -> Tensor:
        """The dummy images (N, C, H, W)."""
        return self.attack.pixels(self.variables[0])

    def closure(self) -> Tensor:
        """The objective; its gradient is stored in the variables."""
        loss = self._objective(create_graph=True)
        for variable, slope in zip(self.variables, torch.autograd.grad(loss, self.variables), strict=True):
            variable.grad = slope
        return self._remember(loss.detach())

    def evaluate(self) -> float:
        """The objective without its gradient."""
        return float(self._remember(self._objective(create_graph=False).detach()))

    def _objective(self, create_graph: bool) -> Tensor:
        images = self.images
        loss = self.attack.training_loss(self.model(images), self.labels, self.terms)
        names, parameters = zip(*trained_parameters(self.model), strict=True)
        dummy = torch.autograd.grad(loss, parameters, create_graph=create_graph)
        return self.attack.objective(dict(zip(names, dummy, strict=True)), self.shared, images, self.terms)

    def _remember(self, loss: Tensor) -> Tensor:
        if loss < self.best[0]:
            self.best = (float(loss), [variable.detach().clone() for variable in self.variables])
        return loss
