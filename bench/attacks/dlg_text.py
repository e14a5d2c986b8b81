"""DLG for texts: word embeddings are optimised, and the nearest words are read off (Zhu et al. 2019)."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor

from leakbench.bench.attacks.bag import why_not
from leakbench.bench.attacks.base import (
    Attack,
    Case,
    Found,
    Knows,
    NotApplicableError,
    Observer,
    Resources,
    Status,
    one_by_one,
)
from leakbench.bench.attacks.dummy_texts import DummyTexts, answered, show
from leakbench.bench.attacks.token_layers import token_layers, training_loss
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.core import citations
from leakbench.core.ranges import Range
from leakbench.defenses import Gradients

ROUNDING = 1e-6  # of the largest tensor, in its mean square: smaller ones, such as a key's bias, are rounding
CHECKED = 10  # steps between two looks at the words themselves
EXACT = 1e-5  # of the objective: with one wrong word of forty it is a hundred times as much
MOST_EVALUATIONS = 25  # in the line search of one step


@dataclass(frozen=True)
class DLGText(Attack):
    """Matches gradients by L-BFGS with a line search, over what the words are looked up as.

    It is told how many tokens each text has, and what the model was to answer. Each tensor's distance is
    relative to its own norm, because tensors differ a thousandfold in scale; and so do the rows of an
    embedding of places, of which each counts as a tensor. The gradient of the word embedding is not matched:
    a dummy is not looked up in it.
    """

    name: ClassVar[str] = "dlg-text"
    citation: ClassVar[str] = citations.DLG
    modality: ClassVar[Modality] = TEXTS
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.LABELS, Knows.LENGTH})

    steps: Annotated[int, Range(1, 10**6)] = 150

    @property
    def budget(self) -> int:
        """See `Attack.budget`."""
        return self.steps

    def with_budget(self, steps: int) -> "DLGText":
        """See `Attack.with_budget`."""
        return replace(self, steps=steps)

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        return why_not(example, needs_words=False)

    def distance(self, apart: Tensor, size: "Size") -> Tensor:
        """The distance of two tensors of the gradients, a scalar: |a - b|^2 / |b|^2.

        Args:
            apart: a - b, of any shape.
            size: that of b, which was shared.
        """
        return apart.square().sum() / size.squared

    def invert_many(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | NotApplicableError]]:
        """See `Attack.invert_many`."""
        return one_by_one(cases, lambda case: _Run(self, case, resources.device).to_the_end(observe))


class Size(NamedTuple):
    """How large a tensor that was shared is."""

    squared: Tensor  # |b|^2
    absolute: Tensor  # |b|_1


class _Evaluated(NamedTuple):
    """The objective at one value of the variable."""

    variable: Tensor
    objective: Tensor
    gradient: Tensor


class _Run:
    """The attack on one case."""

    def __init__(self, attack: DLGText, case: Case, device: str):
        self.attack, self.case = attack, case
        self.layers = token_layers(case.model, case.spec)  # tried on the CPU
        self.layers.model.to(device)
        self.dummy = DummyTexts(case, self.layers, device)
        assert case.labels is not None
        self.labels = case.labels.to(device)
        trained = dict(trained_parameters(self.layers.model))
        self.parameters = {name: each for name, each in trained.items() if name != self.layers.words_name}
        parts = self._parts({name: case.shared[name].to(device) for name in self.parameters})
        sizes = {name: float(each.square().mean().sqrt()) for name, each in parts.items()}
        largest = max(sizes.values())
        self.shared = {name: parts[name] for name in parts if sizes[name] > ROUNDING * largest}
        self.sizes = {name: Size(each.square().sum(), each.abs().sum()) for name, each in self.shared.items()}
        self.evaluated: deque[_Evaluated] = deque(maxlen=MOST_EVALUATIONS)  # those of the last step

    def _parts(self, gradients: Gradients) -> Gradients:
        """The gradients, with each row of the embedding of places by itself."""
        places = self.layers.positions_name
        rows = gradients[places][: self.dummy.known.shape[1]] if places in gradients else ()
        return {
            **{name: each for name, each in gradients.items() if name != places},
            **{f"{places}[{place}]": row for place, row in enumerate(rows)},
        }

    def loss(self, embeddings: Tensor) -> Tensor:
        """The objective, if words are looked up as these (N, L, hidden); with its graph if they have one."""
        with self.dummy.looked_up_as(embeddings):
            loss = training_loss(self.layers.model, self.dummy.known, self.labels)
        own = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, own, create_graph=embeddings.requires_grad)
        dummy = self._parts(dict(zip(self.parameters, gradients, strict=True)))
        apart = [
            self.attack.distance(dummy[name] - shared, self.sizes[name])
            for name, shared in self.shared.items()
        ]
        return torch.stack(apart).mean()

    def is_solved(self) -> bool:
        """Whether the nearest words give the shared gradient themselves."""
        return float(self.loss(self.dummy.table[self.dummy.tokens()])) < EXACT

    def to_the_end(self, observe: Observer) -> Found:
        """Every step, observed."""
        history: list[float] = []
        status, reason = Status.CONVERGED, "the shared gradient is zero"
        if self.shared:
            status, reason = self._descend(observe, history)
        objective = next((each for each in reversed(history) if math.isfinite(each)), None)
        found = answered(self.case, self.dummy.tokens())
        return Found(found, self.case.labels, objective, history, status, reason)

    def _descend(self, observe: Observer, history: list[float]) -> tuple[Status, str]:
        """Every step, each with its objective added to the history; and how they ended."""
        variable = self.dummy.variable
        history.append(float(self._evaluate().objective))
        show(self.case, self.dummy.tokens(closely=False), 0, observe)
        optimizer, stuck = self._optimizer(), False
        for step in range(1, self.attack.steps + 1):
            before = variable.detach().clone()
            optimizer.step(self._closure)
            history.append(float(self._evaluate().objective))
            if not math.isfinite(history[-1]):
                variable.data.copy_(before)
                return Status.DIVERGED, f"the objective became {history[-1]}"
            show(self.case, self.dummy.tokens(closely=False), step, observe)
            if step % CHECKED == 0 and self.is_solved():
                return Status.CONVERGED, "the words that were found give the shared gradient"
            moved = not torch.equal(before, variable.detach())
            if not moved:
                if stuck:
                    return Status.CONVERGED, "no step lowers the objective any more"
                optimizer = self._optimizer()  # once more, from the steepest descent
            stuck = not moved
        return Status.BUDGET, f"stopped at the limit of {self.attack.steps} steps"

    def _optimizer(self) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [self.dummy.variable],
            max_iter=1,
            max_eval=MOST_EVALUATIONS,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def _closure(self) -> Tensor:
        """The objective, with its gradient stored where the optimizer looks for it."""
        _, objective, self.dummy.variable.grad = self._evaluate()
        return objective

    def _evaluate(self) -> _Evaluated:
        """The objective. A step begins where the line search of the last one was, which is looked up."""
        variable = self.dummy.variable
        for known in reversed(self.evaluated):
            if torch.equal(known.variable, variable):
                return known
        objective = self.loss(self.dummy.embeddings())
        (gradient,) = torch.autograd.grad(objective, [variable])
        self.evaluated.append(_Evaluated(variable.detach().clone(), objective.detach(), gradient))
        return self.evaluated[-1]
