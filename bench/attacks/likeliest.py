"""Searches the text that explains a gradient best, word by word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, vmap

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
from leakbench.bench.attacks.dummy_texts import answered, known_tokens, show
from leakbench.bench.attacks.rows import Rows
from leakbench.bench.attacks.text_likelihood import Explained, TextLikelihood
from leakbench.bench.attacks.token_layers import token_layers, vocabulary_of
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.ranges import Count

ENOUGH = 1e-12  # of the whole gradient: a smaller gain is rounding
TOGETHER = 6  # words that are moved at most
EVIDENCE = 3.0  # in a round: with less, what it has changed is not even 20 times as likely as before


@dataclass(frozen=True)
class Likeliest(Attack):
    """The text whose gradient is most likely to have become the shared one, as far as a search finds it.

    It starts with unknown words between `[CLS]` and `[SEP]`, and goes through the places in random order. At
    each it tries the pieces that the gradient of the word embedding speaks for, and keeps the one with which
    the whole gradient is explained best. If a round from what `rows` finds explains more, it goes on with
    that. When no other piece explains more, it tries to exchange pairs of places, to move a few words
    elsewhere, then the pieces for which the slope of what is missing speaks, and so on in turn. It is told
    how many tokens the text has, what the model was to answer, and the defense: which entries are left, and
    how much noise each tensor has.
    """

    name: ClassVar[str] = "likeliest"
    modality: ClassVar[Modality] = TEXTS
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.LABELS, Knows.LENGTH, Knows.DEFENSE})

    candidates: Count = 16  # pieces that are tried at a place
    rounds: Count = 60  # through all places, at most

    @property
    def budget(self) -> int:
        """See `Attack.budget`."""
        return self.rounds

    def with_budget(self, steps: int) -> "Likeliest":
        """See `Attack.with_budget`."""
        return replace(self, rounds=steps)

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        if example.spec.count > 1:
            return f"expected a gradient of one text, got {example.spec.count}"
        return why_not(example) or _not_functional(example)

    def invert_many(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | NotApplicableError]]:
        """See `Attack.invert_many`."""
        return one_by_one(cases, lambda case: _Search(self, case, resources.device).to_the_end(observe))


def _not_functional(example: Case) -> str:
    """Why `torch.func` cannot run the model on several texts at once; empty if it can."""
    model = example.model
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    try:
        with foreign(SystemExit):
            vmap(lambda text: functional_call(model, parameters, (text[None],)))(torch.ones(2, 3).long())
    except ForeignError as error:
        return f"expected a model that torch.func can run, got {error.short}"
    return ""


class _Search:
    """The attack on one case."""

    def __init__(self, attack: Likeliest, case: Case, device: str):
        self.attack, self.case = attack, case
        layers = token_layers(case.model, case.spec)  # tried on the CPU
        layers.model.to(device)
        self.likelihood = TextLikelihood(case, layers, device)
        vocabulary = vocabulary_of(case.spec)
        self.text = known_tokens(case)[0].to(device)  # (L,)
        self.text[0], self.text[-1] = vocabulary.begin, vocabulary.end
        self.free = (self.text == vocabulary.unknown).nonzero()[:, 0]
        self.generator = case.generator("order of places")
        self.present = self.likelihood.explained(self.text[None])[0]
        self.slopes: Tensor | None = None  # of the present text, once they were asked for
        self.in_vain: set[tuple[str, int]] = set()  # kinds of change and places, tried with the present text

    def to_the_end(self, observe: Observer) -> Found:
        """Every round, observed."""
        kinds = (self._supported, self._exchanged, self._moved, self._downhill)
        history, status = [self.missing], Status.BUDGET
        kind = idle = 0
        show(self.case, self.text[None], 0, observe)
        for number in range(1, self.attack.rounds + 1):
            self._round(kinds[kind])
            if number == 1 and not Rows().refusal(self.case):
                self._or_from(self._by_rows())
            history.append(self.missing)
            show(self.case, self.text[None], number, observe)
            if self.likelihood.evidence(history[-2], history[-1]) >= EVIDENCE:
                idle = 0
                continue
            kind, idle = (kind + 1) % len(kinds), idle + 1
            if idle == len(kinds):
                status = Status.CONVERGED
                break
        tokens = answered(self.case, self.text[None])
        reason = f"{self.missing:.3g} of the gradient unexplained"
        return Found(tokens, self.case.labels, self.missing, history, status, reason)

    def _round(self, change: Callable[[int], Tensor]) -> None:
        """A kind of change at each place, where it was not tried for the same text."""
        for place in self._in_random_order():
            if (change.__name__, place) not in self.in_vain:
                self.in_vain.add((change.__name__, place))
                self._try(change(place))

    def _or_from(self, text: Tensor) -> None:
        """Go on from another text (L,) and a round of it, if that explains more."""
        before = self.text, self.present, self.in_vain
        self._go_on(text, self.likelihood.explained(text[None])[0])
        self._round(self._supported)
        if self.missing >= float(before[1].missing):
            self.text, self.present, self.in_vain = before

    @property
    def missing(self) -> float:
        """The share of the gradient that the text does not explain."""
        return float(self.present.missing)

    def _in_random_order(self) -> list[int]:
        """The places whose words are looked for."""
        order = torch.randperm(len(self.free), generator=self.generator)
        return [int(self.free[each]) for each in order]

    def _by_rows(self) -> Tensor:
        """The text with what `rows` finds for the places that are looked for (L,)."""
        text, found = self.text.clone(), Rows().invert(self.case).x[0].to(self.text.device)
        places = self.free[self.free < len(found)]
        text[places] = found[places]
        return text

    def _supported(self, place: int) -> Tensor:
        """The text with words at a place that the gradient of the word embedding speaks for (B, L).

        Most have a row that holds what the place adds; the others one that no place explains so far.
        """
        rows = self.present.rows
        left = self.likelihood.unexplained(self.text, rows)
        gains = self.likelihood.gains(self.text, place, rows)
        words = self._best(place, left, self.attack.candidates // 4)
        gains[words] = -torch.inf
        more = self._best(place, gains, self.attack.candidates - len(words))
        return self._with(place, torch.cat([more, words]))

    def _downhill(self, place: int) -> Tensor:
        """The text with words at a place for which the slope of what is missing speaks (B, L)."""
        if self.slopes is None:
            self.slopes = self.likelihood.slopes(self.text)
        table = self.likelihood.layers.words.weight.detach()
        return self._with(place, self._best(place, -(table @ self.slopes[place]), self.attack.candidates))

    def _best(self, place: int, gains: Tensor, count: int) -> Tensor:
        """The pieces with the largest gains (of V), but not the one at a place."""
        gains[self.text[place]] = -torch.inf
        return gains.topk(min(count, len(gains) - 1)).indices

    def _with(self, place: int, words: Tensor) -> Tensor:
        """The text with each of these words at a place (B, L)."""
        texts = self.text.repeat(len(words), 1)
        texts[:, place] = words
        return texts

    def _exchanged(self, place: int) -> Tensor:
        """The text with a place and each later one exchanged (B, L), where that makes a difference."""
        others = self.free[(self.free > place) & (self.text[self.free] != self.text[place])]
        texts = self.text.repeat(len(others), 1)
        texts[:, place] = self.text[others]
        texts[range(len(others)), others] = self.text[place]
        return texts

    def _moved(self, place: int) -> Tensor:
        """The text with words from a place on moved, and those between moved up (B, L): some of many."""
        first, count = int((self.free < place).sum()), len(self.free)
        order = list(range(count))
        orders: list[list[int]] = []
        for after in range(first + 1, min(first + TOGETHER, count) + 1):
            block, others = order[first:after], order[:first] + order[after:]
            orders += [others[:to] + block + others[to:] for to in range(len(others) + 1) if to != first]
        some = torch.randperm(len(orders), generator=self.generator)[: self.attack.candidates]
        drawn = torch.tensor(orders).reshape(-1, count)[some].to(self.free)
        texts = self.text.repeat(len(drawn), 1)
        texts[:, self.free] = self.text[self.free[drawn]]
        return texts

    def _try(self, texts: Tensor) -> None:
        """Go on with the best of these texts (B, L), if it explains more."""
        if not len(texts):
            return
        explained = self.likelihood.explained(texts)
        best = int(explained.missing.argmin())
        if float(explained.missing[best]) < self.missing - ENOUGH:
            self._go_on(texts[best], explained[best])

    def _go_on(self, text: Tensor, explained: Explained) -> None:
        """From a text (L,)."""
        self.text, self.present, self.slopes, self.in_vain = text, explained, None, set()
