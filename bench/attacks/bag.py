"""Finds which pieces a text has, in no order: a bag of words."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Attack, Case, Found, NotApplicableError
from leakbench.bench.attacks.hidden_words import different_hidden_words
from leakbench.bench.attacks.token_layers import token_layers, vocabulary_of
from leakbench.bench.attacks.word_rows import standing_out, word_rows
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.core import citations


@dataclass(frozen=True)
class Bag(Attack):
    """Reads off the rows of the word embedding's gradient which pieces occur, in all texts together."""

    name: ClassVar[str] = "bag"
    citation: ClassVar[str] = citations.BAG
    modality: ClassVar[Modality] = TEXTS

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        return why_not(example)

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`; the pieces that stand out most come first."""
        pieces = bag_of(word_rows(case, token_layers(case.model, case.spec)))
        if case.spec.masked:
            shown = pieces[pieces != vocabulary_of(case.spec).mask]
            pieces = torch.cat([shown, different_hidden_words(case)]).unique()
        found = pieces[: case.spec.shape[0]]
        return Found(found.repeat(case.spec.count, 1), reason=f"{len(pieces)} pieces stand out")


def bag_of(rows: Tensor) -> Tensor:
    """The pieces that occur (k,) by their `word_rows` (V, H), of the largest row first; at least one."""
    order: Tensor = rows.norm(dim=1).argsort(descending=True, stable=True)
    return order[: max(int(standing_out(rows).sum()), 1)]


def why_not(example: Case, needs_words: bool = True) -> str:
    """Why tokens cannot be read off the layers of such a case; empty if they can."""
    spec = example.spec
    if spec.steps > 1 or spec.signed:
        return "expected a gradient, got how weights moved in several steps or by Adam"
    try:
        layers = token_layers(example.model, spec)
    except NotApplicableError as error:
        return str(error)
    if needs_words and layers.words_name is None:
        return "expected a trained word embedding, whose rows tell the pieces of a text"
    return ""
