"""Puts the pieces of a text in order by comparing the rows of two embeddings' gradients.

What an embedding of places gets at place i is what the embedding of words gets there for the word at that
place. So the row of a word is the sum of the rows of its places.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from leakbench.bench.attacks.bag import bag_of, why_not
from leakbench.bench.attacks.base import Attack, Case, Found, NotApplicableError
from leakbench.bench.attacks.hidden_words import different_hidden_words, with_answers
from leakbench.bench.attacks.token_layers import TokenLayers, token_layers
from leakbench.bench.attacks.word_rows import (
    decoded,
    is_tied,
    outside,
    standing_out,
    without_decoded,
    word_rows,
)
from leakbench.bench.modalities import TEXTS, Modality

ROUNDS = 20  # through all places, at most; few are enough
NOTHING = 1e-12  # of the squares: less is rounding, and could go round in circles
GUESSES = 5  # of the whole text, each with what the one before says of the decoder
OFTEN = 4  # times that a hidden word may also be in the text to be seen


@dataclass(frozen=True)
class Rows(Attack):
    """Gives each place the word whose row has that place's row as a part, by least squares."""

    name: ClassVar[str] = "rows"
    modality: ClassVar[Modality] = TEXTS

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        problem = why_not(example)
        if problem:
            return problem
        if example.spec.count > 1:
            return f"expected a gradient of one text, got {example.spec.count}, whose places add up"
        if token_layers(example.model, example.spec).positions_name is None:
            return "expected a trained embedding of places, whose rows tell the order"
        return ""

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`."""
        problem = self.refusal(case)
        if problem:
            raise NotApplicableError(problem)
        layers = token_layers(case.model, case.spec)
        assert layers.words_name is not None
        assert layers.positions_name is not None
        rows = word_rows(case, layers)
        pieces = bag_of(rows)
        places = case.shared[layers.positions_name].double()
        if is_tied(layers):
            places = outside(places, decoded(case.shared[layers.words_name].double()))
        length = min(_length(places), case.spec.shape[0])
        places = places[:length]
        if case.spec.masked:
            pieces = _placed(rows, pieces, places, different_hidden_words(case))
        tokens = pieces[_assigned(places, rows[pieces])][None]
        found, answers = with_answers(case, layers, tokens)
        if is_tied(layers) and answers is not None:
            places = case.shared[layers.positions_name].double()[:length]
            found, answers, pieces = _again(case, layers, places, tokens, answers)
        return Found(found, answers, reason=f"{length} places, {len(pieces)} pieces")


def _again(
    case: Case, layers: TokenLayers, places: Tensor, tokens: Tensor, answers: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The text, what was hidden, and the pieces, without what the decoder would add if the text were that.

    A hidden word that can also be seen in the text is only found like this.

    Args:
        case: of a masked language model.
        layers: whose decoder has the weights of the word embedding.
        places: what places get (L, H).
        tokens: a first guess (1, L), with `[MASK]` where words are hidden.
        answers: these words (1, L).
    """
    hidden: Tensor | None = answers
    for _ in range(GUESSES):
        rows = without_decoded(case, layers, tokens, hidden)
        pieces = bag_of(rows)
        before, tokens = tokens, pieces[_assigned(places, rows[pieces])][None]
        found, hidden = with_answers(case, layers, tokens)
        if torch.equal(before, tokens):
            break
    return found, hidden, pieces


def _length(places: Tensor) -> int:
    """How many places a text has: up to the last row (of P, H) that stands out."""
    found = standing_out(places).nonzero()
    return int(found.max()) + 1 if len(found) else 1


def _placed(rows: Tensor, pieces: Tensor, places: Tensor, hidden: Tensor) -> Tensor:
    """The pieces without those hidden words whose rows hold far more than places gave them.

    A decoder with the same weights adds -h to the row of a hidden word. Under noise or pruning some of it is
    left, more than a place gives to its word.
    """
    usual = places.norm(dim=1).median()
    left_over = torch.isin(pieces, hidden) & (rows[pieces].norm(dim=1) > OFTEN * usual)
    return pieces[~left_over] if bool((~left_over).any()) else pieces


def _assigned(places: Tensor, words: Tensor) -> Tensor:
    """For each place (L, H) the word (of W, H), so that the sums over the places of each word are nearest.

    The best word by cosine is a start; then single places move to where they fit better, all words are put in
    another order, and pairs of places exchange their words, as long as that helps.
    """
    unit = torch.nn.functional.normalize(places, dim=1)
    chosen = (unit @ torch.nn.functional.normalize(words, dim=1).T).argmax(1)
    for _ in range(ROUNDS):
        before = chosen.clone()
        for place, row in enumerate(places):
            left = _left(places, words, chosen)
            left[chosen[place]] += row
            # |left - row|^2 - |left|^2, of each word
            chosen[place] = (row.square().sum() - 2 * left @ row).argmin()
        permuted = _permuted(places, words, chosen)
        if _objective(places, words, permuted) < _objective(places, words, chosen):
            chosen = permuted
        while (pair := _exchange(places, words, chosen)) is not None:
            chosen[list(pair)] = chosen[list(reversed(pair))]
        if torch.equal(before, chosen):
            break
    return chosen


def _permuted(places: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
    """The same words over the places as they fit best, if each is compared with what the others leave of it.

    This is the best order where no word occurs twice.
    """
    missing = _left(places, words, chosen)[chosen] + places  # of each place's word, without that place (L, H)
    _, order = linear_sum_assignment(-(places @ missing.T).numpy())
    return chosen[torch.from_numpy(order)]


def _objective(places: Tensor, words: Tensor, chosen: Tensor) -> float:
    return float(_left(places, words, chosen).square().sum())


def _left(places: Tensor, words: Tensor, chosen: Tensor) -> Tensor:
    """What of each word's row is left without its places."""
    return words.index_add(0, chosen, places, alpha=-1)


def _exchange(places: Tensor, words: Tensor, chosen: Tensor) -> tuple[int, int] | None:
    """The two places whose exchange of words lowers the sum of squares most; None if none does."""
    own = _left(places, words, chosen)[chosen]  # of the word of each place (L, H)
    apart, without = places[:, None] - places[None], own[:, None] - own[None]
    change = 2 * (apart * (apart + without)).sum(-1)
    change[chosen[:, None] == chosen[None]] = 0
    if change.min() >= -NOTHING * words.square().sum():
        return None
    first, second = divmod(int(change.argmin()), len(places))
    return first, second
