"""The texts of a batch, one after the other, from the pieces that each place can have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.attacks.text_search import Guess, Search
from leakbench.bench.vocabulary import Vocabulary

TRIES = 3  # starts for each place where texts may end, at most; most searches find a text at the first
TEXTS_PASSED = 6_000  # through the first layers, for each text of a batch: 5 to 20 s on one core

Explained = Callable[[Sequence[Tensor]], bool]  # whether texts, each (L,) among the pieces, are all there are


@dataclass(frozen=True)
class Possible:
    """Which pieces may stand at which places."""

    pieces: Tensor  # (C,)
    table: Tensor  # (C, L), bool

    def texts_until(self, end: int, vocabulary: Vocabulary) -> Tensor:
        """The part of the table (C, end + 1) of texts that end at a place."""
        table = self.table[:, : end + 1].clone()
        within = torch.tensor(sorted(vocabulary.special - {vocabulary.mask}))
        table[torch.isin(self.pieces, within), 1:] = False
        table[:, end] = self.pieces == vocabulary.end
        return table

    def without(self, texts: Sequence[Guess]) -> Tensor:
        """What is left of the table (C, L) without the pieces of texts."""
        left = self.table.clone()
        for text in texts:
            left[text.choice, range(len(text.choice))] = False
        return left


def separated(
    possible: Possible, count: int, search: Search, vocabulary: Vocabulary, explained: Explained
) -> tuple[list[Guess], bool]:
    """As many texts as could be found, the best ones first, and whether they explain the gradient.

    Each start is drawn from pieces that no text has yet, where there are some. Ends of texts are tried in
    turn, because texts that do not end there take as long as others. If all texts together do not explain
    the gradient, the least sure one is given up, and the search goes on.
    """
    is_end = possible.pieces == vocabulary.end
    ends = possible.table[is_end].any(0).nonzero()[:, 0]
    tables = {end: possible.texts_until(end, vocabulary) for end in ends[ends > 0].tolist()}
    tried = {end: 0 for end, table in tables.items() if bool(table.any(0).all())}
    sure: list[Guess] = []
    others: list[Guess] = []  # those that are not, and those given up
    while min(tried.values(), default=TRIES) < TRIES and search.passed < count * TEXTS_PASSED:
        left = possible.without(sure)
        if not left.any():
            break
        end = min(tried, key=lambda each: (tried[each], not left[is_end, each].any(), -each))
        tried[end] += 1
        known = [guess.choice for guess in (*sure, *(each for each in others if each.is_sure))]
        guess = search.improved(_start(tables[end], left, search.generator), tables[end], known)
        if any(torch.equal(guess.choice, each.choice) for each in (*sure, *others)):
            continue
        (sure if guess.is_sure else others).append(guess)
        if len(sure) == count:
            if explained([each.choice for each in sure]):
                return sure, True
            others.append(sure.pop(max(range(count), key=lambda place: sure[place].doubt)))
    others.sort(key=lambda guess: guess.doubt)
    found = (sure + others)[:count]
    # texts that differ in one place only are never sure, and yet may be right
    return found, len(found) == count and explained([each.choice for each in found])


def _start(table: Tensor, left: Tensor, generator: torch.Generator) -> Tensor:
    """For each place (L,) one of the pieces that it may have (C, L), rather one that no text has yet."""
    weight = table * (1e-6 + left[:, : table.shape[1]])
    return torch.multinomial(weight.T.float(), 1, generator=generator)[:, 0]
