"""DLG for texts: word embeddings are optimised, and the nearest words are read off (Zhu et al. 2019)."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

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
from leakbench.defenses import Gradients

ROUNDING = 1e-6  # of the largest tensor, in its mean square: smaller ones, such as a key's bias, are rounding
TINY = torch.finfo(torch.float32).tiny  # in place of the norm of a tensor of zeros
NEAR = 32  # words that are compared more closely
MOST_EVALUATIONS = 25  # in the line search of one step


@dataclass(frozen=True)
class DLGText(Attack):
    """Matches gradients by L-BFGS with a line search, over what the words are looked up as.

    It is told how many tokens each text has, and what the model was to answer. Each tensor's distance is
    relative to its own norm, because tensors differ a thousandfold in scale. The gradient of the word
    embedding is not matched: a dummy is not looked up in it.
    """

    name: ClassVar[str] = "dlg-text"
    citation: ClassVar[str] = citations.DLG
    modality: ClassVar[Modality] = TEXTS
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.LABELS, Knows.LENGTH})

    steps: int = 150

    def problems(self) -> Iterator[tuple[str, str]]:
        """The count must be at least 1."""
        if not 1 <= self.steps <= 10**6:
            yield "steps", f"expected a whole number in 1..{10**6}, got {self.steps}"

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
            (each - shared[name]).square().sum() / shared[name].square().sum().clamp(min=TINY)
            for name, each in dummy.items()
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
        case.model.to(device)
        self.layers = token_layers(case.model, case.spec)
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
        sizes = {name: float(each.square().mean().sqrt()) for name, each in case.shared.items()}
        self.parameters = {
            name: each
            for name, each in trained_parameters(self.layers.model)
            if name != self.layers.words_name and sizes[name] >= ROUNDING * max(sizes.values())
        }
        self.shared = {name: case.shared[name].to(device) for name in self.parameters}

    def embeddings(self) -> Tensor:
        """The dummy (N, L, hidden)."""
        return self.rest.masked_scatter(self.free[..., None], self.variable)

    def loss(self) -> Tensor:
        """The objective at the present dummy."""
        with self._looked_up_as_dummy():
            scores = self.layers.model(self.known)
        loss = functional.cross_entropy(scores, self.labels)
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), create_graph=True)
        dummy = dict(zip(self.parameters, gradients, strict=True))
        return self.attack.distance(dummy, self.shared)

    @contextmanager
    def _looked_up_as_dummy(self) -> Iterator[None]:
        hook = self.layers.words.register_forward_hook(lambda *_: self.embeddings())
        try:
            yield
        finally:
            hook.remove()

    def tokens(self, closely: bool = True) -> Tensor:
        """The nearest words (N, L); what is known stays.

        Args:
            closely: whether the most similar words are compared once more, by `_nearest`.
        """
        with torch.no_grad():
            dummy, table = (each - each.mean(-1, keepdim=True) for each in (self.variable, self.table))
            alike = functional.normalize(dummy, dim=-1) @ functional.normalize(table, dim=-1).T
            words = alike.topk(min(NEAR, len(table)), dim=-1).indices  # (free places, NEAR)
            words = self._nearest(words) if closely and self.layers.linear else words[:, 0]
            found = self.known.masked_scatter(self.free, words)
        if self.case.spec.masked:
            found = torch.where(self.labels == NOT_ASKED, found, self.labels)
        return found.cpu()

    def _nearest(self, candidates: Tensor) -> Tensor:
        """Of several words for each free place the one that the first layer gets the most similar input of.

        What the embeddings add up to is normalised before that layer, so only its direction is determined.
        """
        first = self.layers.linear[0].layer
        with self._looked_up_as_dummy():
            wanted = self.layers.inputs(self.known, first)[self.free]
        given = (self.known.masked_scatter(self.free, words) for words in candidates.T)
        apart = [(self.layers.inputs(each, first)[self.free] - wanted).norm(dim=-1) for each in given]
        best = torch.stack(apart).argmin(0)
        return candidates.gather(1, best[:, None])[:, 0]

    def to_the_end(self, observe: Observer) -> Found:
        """Every step, observed."""
        optimizer = torch.optim.LBFGS(
            [self.variable],
            max_iter=1,
            max_eval=MOST_EVALUATIONS,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss()
            (self.variable.grad,) = torch.autograd.grad(loss, [self.variable])
            return loss.detach()

        history, stuck = [float(self.loss().detach())], False
        self._show(observe, 0)
        status, reason = Status.BUDGET, f"stopped at the limit of {self.attack.steps} steps"
        for step in range(1, self.attack.steps + 1):
            before = self.variable.detach().clone()
            optimizer.step(closure)
            history.append(float(self.loss().detach()))
            if not math.isfinite(history[-1]):
                status, reason = Status.DIVERGED, f"the objective became {history[-1]}"
                self.variable.data.copy_(before)
                break
            self._show(observe, step)
            if torch.equal(before, self.variable.detach()):
                if stuck:
                    status, reason = Status.CONVERGED, "no step lowers the objective any more"
                    break
                optimizer.state.clear()  # once more, from the steepest descent
            stuck = torch.equal(before, self.variable.detach())
        objective = next((each for each in reversed(history) if math.isfinite(each)), None)
        return Found(self.tokens(), self.case.labels, objective, history, status, reason)

    def _show(self, observe: Observer, step: int) -> None:
        tokens, spec = self.tokens(closely=False), self.case.spec
        room = (0, spec.shape[0] - tokens.shape[1])
        shown = functional.pad(tokens, room, value=vocabulary_of(spec).pad)
        observe([self.case.number], [step], shown[None])
