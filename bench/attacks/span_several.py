"""The texts of a batch, one after the other, from the pieces that each place can have."""

from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.attacks.text_search import Guess, Search
from leakbench.bench.vocabulary import Vocabulary

TRIES = 10  # starts for each place where texts may end, at most; most searches find a text at the first
TEXTS_PASSED = 12_000  # through the first layers, for each text of a batch: about 10 s on one core


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


def separated(
    possible: Possible, count: int, search: Search, vocabulary: Vocabulary
) -> tuple[list[Guess], int]:
    """As many texts as there are, the sure ones first, and how many are sure; none if no text can be begun.

    Each start is drawn from pieces that no text has yet, where there are some. Ends of texts are tried in
    turn, because texts that do not end there take as long as others.
    """
    is_end = possible.pieces == vocabulary.end
    ends = possible.table[is_end].any(0).nonzero()[:, 0]
    tables = {end: possible.texts_until(end, vocabulary) for end in ends[ends > 0].tolist()}
    tables = {end: table for end, table in tables.items() if bool(table.any(0).all())}
    tried = dict.fromkeys(tables, 0)
    sure: list[Guess] = []
    others: list[Guess] = []
    left = possible.table.clone()
    while len(sure) < count and left.any() and search.passed < count * TEXTS_PASSED:
        if min(tried.values(), default=TRIES) == TRIES:
            break
        end = min(tried, key=lambda each: (tried[each], not left[is_end, each].any(), -each))
        tried[end] += 1
        start = _start(tables[end], left, search.generator)
        guess = search.improved(start, tables[end], [each.choice for each in sure])
        if any(torch.equal(guess.choice, each.choice) for each in sure):
            continue
        (sure if guess.is_sure else others).append(guess)
        if guess.is_sure:
            left[guess.choice, range(len(guess.choice))] = False
    others.sort(key=lambda guess: guess.distance)
    found = (sure + others)[:count]
    return found, len(sure)


def _start(table: Tensor, left: Tensor, generator: torch.Generator) -> Tensor:
    """For each place (L,) one of the pieces that it may have (C, L), rather one that no text has yet."""
    weight = table * (1e-6 + left[:, : table.shape[1]])
    return torch.multinomial(weight.T.float(), 1, generator=generator)[:, 0]
