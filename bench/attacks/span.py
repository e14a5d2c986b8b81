"""Finds tokens by the space that a linear layer's inputs span: DAGER (Petrov et al. 2024).

The gradient of a linear layer's weights is a sum of outer products with its inputs. So the inputs lie in the
space of its rows, and those of tokens that are not in the text do not. What the first layer gets of a token
at a place does not depend on the others, so each can be tested by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leakbench.bench.attacks.bag import bag_of, why_not
from leakbench.bench.attacks.base import Attack, Case, Found, Status
from leakbench.bench.attacks.hidden_words import with_answers
from leakbench.bench.attacks.placed_words import placed_words
from leakbench.bench.attacks.span_several import Possible, separated
from leakbench.bench.attacks.text_search import Search, mixer_of
from leakbench.bench.attacks.token_layers import TokenLayers, token_layers, vocabulary_of
from leakbench.bench.attacks.word_rows import outside, row_space, word_rows
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.core import citations

AT_ONCE = 1024  # tokens that are tested together
FULL = 0.7  # of the hidden units: at a higher rank, most tokens lie in the space by chance
CLOSE = 0.03  # of a token's length: further outside, and no token of a batch is at that place
FAR = 0.3  # of a token's length: further outside, and no token was at that place


@dataclass(frozen=True)
class Span(Attack):
    """Tests which tokens lie in the row space of the first layer's gradient, place by place.

    Tokens are those of `bag` where the word embedding is trained, else the whole vocabulary. The texts of a
    batch are told apart by a layer that mixes places: see `text_search`.
    """

    name: ClassVar[str] = "span"
    citation: ClassVar[str] = citations.DAGER
    modality: ClassVar[Modality] = TEXTS

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        problem = why_not(example, needs_words=False)
        if problem:
            return problem
        if not token_layers(example.model, example.spec).linear:
            return "expected trained linear layers that every token passes"
        return ""

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`."""
        layers = token_layers(case.model, case.spec)
        if case.spec.count > 1:
            return _several(case, layers)
        first = layers.linear[0]
        basis = row_space(case.shared[first.weight].double())
        candidates = _candidates(case, layers)
        distances = _distances(layers, candidates, basis, case.spec.shape[0])
        least, best = distances.min(0)
        near = (least < FAR).long().cumprod(0)  # up to the first place without a token
        ends = (candidates[best] == vocabulary_of(case.spec).end).nonzero()[:, 0]
        length = max(min([int(near.sum()), *(ends[:1] + 1).tolist()]), 1)
        tokens = candidates[best[:length]][None]
        tokens, answers = with_answers(case, layers, tokens)
        reason = f"{length} places, rank {len(basis)}, at most {float(least[:length].max()):.2g} outside"
        status = Status.CONVERGED if near[0] else Status.BUDGET
        return Found(tokens, answers, status=status, reason=reason)


def _candidates(case: Case, layers: TokenLayers) -> Tensor:
    """The pieces (C,) that can occur."""
    known = layers.words_name is not None
    return bag_of(word_rows(case, layers)) if known else torch.arange(case.spec.shape[1])


def _several(case: Case, layers: TokenLayers) -> Found:
    """The texts of a batch."""
    spec, first, vocabulary = case.spec, layers.linear[0], vocabulary_of(case.spec)
    longest, width = spec.shape[0], first.layer.in_features
    basis = row_space(case.shared[first.weight].double(), spec.count * longest)
    pieces = _candidates(case, layers)
    distances = _distances(layers, pieces, basis, longest)
    near = distances < CLOSE
    if not near[:, :2].any(0).all():  # of rounded gradients no input is that close
        near = distances < FAR
    pieces, near = pieces[near.any(1)], near[near.any(1)]
    mixer = mixer_of(case, layers, spec.count * longest)
    texts: list[Tensor] = []
    sure, explained, problem = 0, False, ""
    if len(basis) > FULL * width:
        problem = ": expected fewer tokens than hidden units"
    elif mixer and len(pieces):
        gradient = case.shared[mixer.layer.weight].double()
        possible = Possible(pieces, placed_words(case, layers, pieces, near))
        search = Search(mixer, pieces, case.generator("starts of texts"))
        guesses, explained = separated(
            possible,
            spec.count,
            search,
            vocabulary,
            lambda them: mixer.explains(gradient, [pieces[each] for each in them]),
        )
        texts = [pieces[guess.choice] for guess in guesses]
        sure = spec.count if explained else sum(guess.is_sure for guess in guesses)
        if sure == spec.count and not explained:
            problem = ", which do not explain the gradient"
    status = Status.CONVERGED if explained else Status.BUDGET
    reason = f"{sure} of {spec.count} texts found, rank {len(basis)} of {width}{problem}"
    texts += [torch.tensor([vocabulary.pad])] * (spec.count - len(texts))
    tokens = pad_sequence(texts, batch_first=True, padding_value=vocabulary.pad)
    tokens, answers = with_answers(case, layers, tokens)
    return Found(tokens, answers, status=status, reason=reason)


def _distances(layers: TokenLayers, candidates: Tensor, basis: Tensor, length: int) -> Tensor:
    """How far each token (C,) at each place is outside the space, over its length: (C, L)."""

    def parts() -> Iterator[Tensor]:
        for tokens in candidates.split(AT_ONCE):
            inputs = layers.inputs(tokens[:, None].expand(-1, length), layers.linear[0].layer).double()
            yield outside(inputs, basis).norm(dim=-1) / inputs.norm(dim=-1)

    return torch.cat(list(parts()))
