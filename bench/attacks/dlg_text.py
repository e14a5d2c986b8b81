"""DLG for texts: word embeddings are optimised, and the nearest words are read off (Zhu et al. 2019)."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

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
)
from leakbench.bench.attacks.token_layers import token_layers, vocabulary_of
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.core import citations
from leakbench.core.ranges import Range
from leakbench.defenses import Gradients

ROUNDING = 1e-6  # of the largest tensor, in its mean square: smaller ones, such as a key's bias, are rounding
NEAR = 32  # words that are compared more closely
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

    def distance(self, dummy: Gradients, shared: Gradients) -> Tensor:
        """The distance of the gradients, a scalar: the mean over the tensors of |a - b|^2 / |b|^2."""
        apart = [
            (each - shared[name]).square().sum() / shared[name].square().sum() for name, each in dummy.items()
        ]
        return torch.stack(apart).mean()

    def invert_many(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | NotApplicableError]]:
        """See `Attack.invert_many`."""
        for case in cases:
            began = time.perf_counter()
            if case.labels is None or case.lengths is None:
                text = "expected texts whose lengths and labels are known to tell it, found a recorded update"
                yield case.number, NotApplicableError(text)
                continue
            found = _Run(self, case.copy(), resources.device).to_the_end(observe)
            yield case.number, replace(found, seconds=time.perf_counter() - began)


class _Run:
    """The attack on one case."""

    def __init__(self, attack: DLGText, case: Case, device: str):
        assert case.labels is not None
        assert case.lengths is not None
        self.attack, self.case, self.device = attack, case, device
        self.layers = token_layers(case.model, case.spec)  # tried on the CPU
        self.layers.model.to(device)
        self.labels = case.labels.to(device)
        vocabulary, length = vocabulary_of(case.spec), max(case.lengths)
        places = torch.arange(length)[None] < torch.tensor(case.lengths)[:, None]
        known = torch.where(places, vocabulary.unknown, vocabulary.pad)
        if case.spec.masked:
            known = known.masked_fill(case.labels != NOT_ASKED, vocabulary.mask)
        self.known = known.to(device)
        self.free = self.known == vocabulary.unknown  # places whose word is looked for
        table = self.layers.words.weight.detach()
        self.table = table
        generator = case.generator("start embeddings")
        start = table.std().cpu() * torch.randn(*known.shape, table.shape[1], generator=generator)
        self.variable = start.to(device)[self.free].requires_grad_()
        self.rest = table[self.known]  # of the other places
        trained = dict(trained_parameters(self.layers.model))
        self.parameters = {name: each for name, each in trained.items() if name != self.layers.words_name}
        parts = self._parts({name: case.shared[name].to(device) for name in self.parameters})
        sizes = {name: float(each.square().mean().sqrt()) for name, each in parts.items()}
        largest = max(sizes.values())
        self.shared = {name: parts[name] for name in parts if sizes[name] > ROUNDING * largest}

    def _parts(self, gradients: Gradients) -> Gradients:
        """The gradients, with each row of the embedding of places by itself."""
        places = self.layers.positions_name
        rows = gradients[places][: self.known.shape[1]] if places in gradients else ()
        return {
            **{name: each for name, each in gradients.items() if name != places},
            **{f"{places}[{place}]": row for place, row in enumerate(rows)},
        }

    def embeddings(self) -> Tensor:
        """The dummy (N, L, hidden)."""
        return self.rest.masked_scatter(self.free[..., None], self.variable)

    def loss(self, embeddings: Tensor) -> Tensor:
        """The objective, if words are looked up as these (N, L, hidden); with its graph if they have one."""
        with self._looked_up_as(embeddings):
            scores = self.layers.model(self.known)
        loss = functional.cross_entropy(scores, self.labels)
        own = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, own, create_graph=embeddings.requires_grad)
        dummy = self._parts(dict(zip(self.parameters, gradients, strict=True)))
        return self.attack.distance({name: dummy[name] for name in self.shared}, self.shared)

    def is_solved(self) -> bool:
        """Whether the nearest words give the shared gradient themselves."""
        return float(self.loss(self.table[self.tokens()])) < EXACT

    @contextmanager
    def _looked_up_as(self, embeddings: Tensor) -> Iterator[None]:
        hook = self.layers.words.register_forward_hook(lambda *_: embeddings)
        try:
            yield
        finally:
            hook.remove()

    def tokens(self, closely: bool = True) -> Tensor:
        """The nearest words (N, L), on the device; what is known stays, and hidden words stay hidden.

        Args:
            closely: whether the most similar words are compared once more, by `_nearest`.
        """
        with torch.no_grad():
            dummy, table = (each - each.mean(-1, keepdim=True) for each in (self.variable, self.table))
            alike = functional.normalize(dummy, dim=-1) @ functional.normalize(table, dim=-1).T
            words = alike.topk(min(NEAR, len(table)), dim=-1).indices  # (free places, NEAR)
            words = self._nearest(words) if closely and self.layers.linear else words[:, 0]
            return self.known.masked_scatter(self.free, words)

    def answered(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) with the hidden words, which are known, filled in; on the CPU."""
        if self.case.spec.masked:
            tokens = torch.where(self.labels == NOT_ASKED, tokens, self.labels)
        return tokens.cpu()

    def _nearest(self, candidates: Tensor) -> Tensor:
        """Of several words for each free place the one that the first layer gets the most similar input of.

        What the embeddings add up to is normalised before that layer, so only its direction is determined.
        """
        first = self.layers.linear[0].layer
        with self._looked_up_as(self.embeddings()):
            wanted = self.layers.inputs(self.known, first)[self.free]
        given = (self.known.masked_scatter(self.free, words) for words in candidates.T)
        apart = [(self.layers.inputs(each, first)[self.free] - wanted).norm(dim=-1) for each in given]
        best = torch.stack(apart).argmin(0)
        return candidates.gather(1, best[:, None])[:, 0]

    def to_the_end(self, observe: Observer) -> Found:
        """Every step, observed."""
        history: list[float] = []
        status, reason = Status.CONVERGED, "the shared gradient is zero"
        if self.shared:
            status, reason = self._descend(observe, history)
        objective = next((each for each in reversed(history) if math.isfinite(each)), None)
        return Found(self.answered(self.tokens()), self.case.labels, objective, history, status, reason)

    def _descend(self, observe: Observer, history: list[float]) -> tuple[Status, str]:
        """Every step, each with its objective added to the history; and how they ended."""
        history.append(float(self.loss(self.embeddings().detach())))
        self._show(observe, 0)
        optimizer, stuck = self._optimizer(), False
        for step in range(1, self.attack.steps + 1):
            before = self.variable.detach().clone()
            optimizer.step(self._gradient)
            history.append(float(self.loss(self.embeddings().detach())))
            if not math.isfinite(history[-1]):
                self.variable.data.copy_(before)
                return Status.DIVERGED, f"the objective became {history[-1]}"
            self._show(observe, step)
            if step % CHECKED == 0 and self.is_solved():
                return Status.CONVERGED, "the words that were found give the shared gradient"
            moved = not torch.equal(before, self.variable.detach())
            if not moved:
                if stuck:
                    return Status.CONVERGED, "no step lowers the objective any more"
                optimizer = self._optimizer()  # once more, from the steepest descent
            stuck = not moved
        return Status.BUDGET, f"stopped at the limit of {self.attack.steps} steps"

    def _optimizer(self) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [self.variable],
            max_iter=1,
            max_eval=MOST_EVALUATIONS,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def _gradient(self) -> Tensor:
        """The objective, with its gradient stored where the optimizer looks for it."""
        loss = self.loss(self.embeddings())
        (self.variable.grad,) = torch.autograd.grad(loss, [self.variable])
        return loss.detach()

    def _show(self, observe: Observer, step: int) -> None:
        tokens, spec = self.answered(self.tokens(closely=False)), self.case.spec
        room = (0, spec.shape[0] - tokens.shape[1])
        shown = functional.pad(tokens, room, value=vocabulary_of(spec).pad)
        observe([self.case.number], [step], shown[None])
