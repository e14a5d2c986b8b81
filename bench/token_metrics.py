"""How similar a found text is to the true one: computed per text, never over a batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean as mean
from typing import Any

import numpy as np
from torch import Tensor

from leakbench.bench.vocabulary import Vocabulary

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}  # {column: what rouge-score calls it}


@dataclass(frozen=True)
class TokenScores:
    """How similar found texts are to the true ones, in [0, 1]: means over the texts.

    Special pieces such as `[CLS]` are left out everywhere.
    """

    rouge_1: float  # these three: F1 of ROUGE (Lin 2004) on words in small letters, without stemming
    rouge_2: float
    rouge_l: float
    token_accuracy: float  # the share of places with the right piece
    bag_recall: float  # the share of the different pieces of the text that were found, wherever
    bag_precision: float  # the share of the different pieces that were found that are in the text
    exact: float  # the share of texts without a difference
    score: float  # how much leaked: ROUGE-L


def score(truth: Tensor, found: Tensor, vocabulary: Vocabulary) -> TokenScores:
    """All scores of found texts (N, L) compared with the true ones (N, L'), in the same order."""
    each = [_score(true, own, vocabulary) for true, own in zip(truth, found, strict=True)]
    return TokenScores(**{it.name: mean(asdict(own)[it.name] for own in each) for it in fields(TokenScores)})


def _score(truth: Tensor, found: Tensor, vocabulary: Vocabulary) -> TokenScores:
    true, own = plain(truth, vocabulary), plain(found, vocabulary)
    rouge = _rouge(vocabulary.words(true), vocabulary.words(own))
    common = len(set(true) & set(own))
    return TokenScores(
        **rouge,
        token_accuracy=token_accuracy(found, truth, vocabulary),
        bag_recall=common / max(len(set(true)), 1),
        bag_precision=common / max(len(set(own)), 1),
        exact=float(true == own),
        score=rouge["rouge_l"],
    )


def plain(tokens: Tensor, vocabulary: Vocabulary) -> list[int]:
    """The ids of a text (L,), without special ones."""
    return [token for token in tokens.tolist() if token not in vocabulary.special]


def token_accuracy(found: Tensor, truth: Tensor, vocabulary: Vocabulary) -> float:
    """The share of places of a text (L,) at which the found one (L',) has the same piece."""
    pairs = list(zip(truth.tolist(), [*found.tolist(), *[-1] * len(truth)], strict=False))
    right = [true == own for true, own in pairs if true not in vocabulary.special]
    return mean(map(float, right)) if right else 1.0


def match(found: Tensor, truth: Tensor, vocabulary: Vocabulary) -> list[int]:
    """The index of the found text for each true one, with the largest sum of ROUGE-L.

    Solved by scipy's linear_sum_assignment.
    """
    if len(truth) == 1:
        return [0]
    from scipy.optimize import linear_sum_assignment

    true, own = ([vocabulary.words(plain(text, vocabulary)) for text in each] for each in (truth, found))
    alike = np.array([[_rouge(one, other)["rouge_l"] for other in own] for one in true])
    order: list[int] = linear_sum_assignment(-alike)[1].tolist()
    return order


class _Words:
    """For rouge-score: its own tokenizer drops all letters but a to z."""

    def tokenize(self, text: str) -> list[str]:
        """The words, which have no spaces in them."""
        return text.split()


def _rouge(truth: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer  # takes a second, so only when something is scored

    scorer = RougeScorer(list(ROUGE.values()), tokenizer=_Words())
    scores: dict[str, Any] = scorer.score(" ".join(truth), " ".join(found))
    return {column: float(scores[name].fmeasure) for column, name in ROUGE.items()}
