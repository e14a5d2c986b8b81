"""Puts texts together from the pieces of each place, by the space of a layer that mixes places.

What such a layer gets at a place depends on the whole text, and lies in the row space of its gradient if the
text is right: the second check of DAGER (Petrov et al. 2024). A text of a bidirectional model cannot be
checked before it is whole, and there are too many whole ones to try. So here, the part outside the space
is taken for linear in the choice of a piece at each place, as in a Gauss-Newton step: one least squares
problem for each place says which pieces would bring that place's input into the space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.token_layers import Linear, TokenLayers
from leakbench.bench.attacks.word_rows import outside, row_space

LOOKED_AT = 3  # layers that mix places: of BERT what follows attention, the MLP's, and the second query
SAME = 1e-6  # relative: a layer whose inputs at one place change less by another piece does not mix places
AT_ONCE = 64  # texts that pass the model together
MOST_SWAPS = 1024  # in one round: 100 MB of residuals of 40 places and 256 hidden units
ROUNDS = 20  # of one search, at most; ten were enough
GAIN = 0.01  # of the distance: a round that gains less ends a search
DAMPING = 1e-6  # of the least squares, relative to their mean
EXPLAINED = 2.0  # times the least that any space leaves of a gradient; true texts leave 1.02 to 1.1 times
SURE = 0.3  # of the distance of the best text that differs in one place: right ones have up to 0.15


@dataclass(frozen=True)
class Mixer:
    """A layer that mixes places, with the directions (H, H - rank) that no text of the batch has."""

    layers: TokenLayers
    layer: Linear
    strange: Tensor
    rank: int

    def outside(self, texts: Tensor) -> Tensor:
        """The part of the inputs of texts (K, L) outside the space, over their norm: (K, L, H - rank)."""

        def parts() -> Iterator[Tensor]:
            for some in texts.split(AT_ONCE):
                inputs = self.layers.inputs(some, self.layer.layer).double()
                yield inputs @ self.strange / inputs.norm(dim=-1, keepdim=True)

        return torch.cat(list(parts()))

    def explains(self, gradient: Tensor, texts: Sequence[Tensor]) -> bool:
        """Whether a gradient (R, H) of this layer is a sum over the inputs of texts, each (L,).

        What it has outside their span is compared with what the best space of that dimension leaves.
        """
        inputs = [self.layers.inputs(text[None], self.layer.layer)[0].double() for text in texts]
        span = torch.linalg.qr(torch.cat(inputs).T).Q.T  # (tokens, H)
        least = torch.linalg.svdvals(gradient)[len(span) :].norm()
        return bool(outside(gradient, span).norm() < EXPLAINED * least)


def mixer_of(case: Case, layers: TokenLayers, most: int) -> Mixer | None:
    """Of the first layers that mix places the one whose gradient has the highest rank; None if there is none.

    Args:
        case: the gradients.
        layers: those of its model.
        most: tokens of all texts, at most.
    """
    width = layers.linear[0].layer.in_features
    mixing = (each for each in layers.linear[1:] if each.layer.in_features == width)
    best: Mixer | None = None
    for _, layer in zip(range(LOOKED_AT), (each for each in mixing if _mixes(layers, each)), strict=False):
        basis = row_space(case.shared[layer.weight].double(), most)
        if len(basis) < width and (best is None or len(basis) > best.rank):
            strange = torch.linalg.qr(basis.T, mode="complete").Q[:, len(basis) :]
            best = Mixer(layers, layer, strange, len(basis))
    return best


def _mixes(layers: TokenLayers, layer: Linear) -> bool:
    """Whether what a layer gets at the first place depends on the piece at the second one."""
    first, second = layers.inputs(torch.tensor([[1, 1], [1, 2]]), layer.layer)[:, 0]
    return bool((first - second).norm() > SAME * first.norm())


@dataclass(frozen=True)
class Guess:
    """A text, and how far it is outside the space."""

    choice: Tensor  # for each place (L,) which of the pieces
    distance: float  # root mean square over the places, relative
    nearest: float  # of the best text that differs in one place

    @property
    def doubt(self) -> float:
        """Its distance compared with that of the best text that differs in one place."""
        return self.distance / max(self.nearest, torch.finfo(torch.float64).tiny)

    @property
    def is_sure(self) -> bool:
        """Whether no text near it is nearly as good."""
        return self.doubt < SURE


class Search:
    """Improves a text until no step does, and counts the texts that pass the model."""

    def __init__(self, mixer: Mixer, pieces: Tensor, generator: torch.Generator):
        self.mixer, self.pieces, self.generator = mixer, pieces, generator
        self.passed = 0

    def improved(self, choice: Tensor, possible: Tensor, known: Sequence[Tensor]) -> Guess:
        """The text that a choice (L,) among the pieces (C,) leads to.

        Args:
            choice: the start.
            possible: which pieces may stand at which places (C, L).
            known: texts that are not looked for any more.
        """
        best = None
        for _ in range(ROUNDS):
            swapped = self._swaps(choice, possible)
            texts = choice.repeat(len(swapped) + 1, 1)
            texts[range(1, len(texts)), swapped[:, 1]] = swapped[:, 0]
            parts = self._outside(texts)
            distances = _distances(parts)
            best = Guess(choice, float(distances[0]), float(distances[1:].min()))
            nearby = texts[1 + distances[1:].argmin()]
            proposed = torch.cat([_proposals(choice, swapped, parts), nearby[None]])
            reached = _distances(self._outside(proposed))
            reached[[any(torch.equal(text, each) for each in known) for text in proposed]] = torch.inf
            if reached.min() > best.distance * (1 - GAIN):
                break
            choice = proposed[reached.argmin()]
        assert best is not None
        return best

    def _swaps(self, choice: Tensor, possible: Tensor) -> Tensor:
        """Other pieces at single places (M, 2), by piece and place; some of them if there are very many."""
        others = possible.clone()
        others[choice, range(len(choice))] = False
        swaps = others.nonzero()
        if not len(swaps):  # what the text is compared with, where each place has one piece
            swaps = torch.cartesian_prod(torch.arange(len(possible)), torch.arange(len(choice)))
            swaps = swaps[swaps[:, 0] != choice[swaps[:, 1]]]
        return swaps[torch.randperm(len(swaps), generator=self.generator)[:MOST_SWAPS]]

    def _outside(self, choices: Tensor) -> Tensor:
        self.passed += len(choices)
        return self.mixer.outside(self.pieces[choices])


def _distances(parts: Tensor) -> Tensor:
    """Of texts (K,), by the parts outside the space (K, L, h)."""
    distances: Tensor = parts.square().sum(-1).mean(-1).sqrt()
    return distances


def _proposals(choice: Tensor, swaps: Tensor, parts: Tensor) -> Tensor:
    """For each place the text (L, L) that would bring what that place gets into the space.

    Args:
        choice: the present text (L,).
        swaps: other pieces at single places (M, 2), by piece and place.
        parts: what is outside the space (1 + M, L, h), of the present text and with each swap.
    """
    length, pieces, places = len(choice), swaps[:, 0], swaps[:, 1]
    change = (parts[1:] - parts[0]).transpose(0, 1)  # (L, M, h)
    change[places, range(len(swaps))] = 0  # a place keeps its own piece
    square = change.transpose(1, 2) @ change  # (L, h, h)
    scale = square.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(torch.float64).tiny)
    square += DAMPING * scale[:, None, None] * torch.eye(square.shape[1], dtype=torch.float64)
    weights = -(change @ torch.linalg.solve(square, parts[0, :, :, None]))[..., 0]  # (L, M)
    scores = torch.full((length, int(max(choice.max(), pieces.max())) + 1, length), -torch.inf).double()
    scores[:, pieces, places] = weights
    # what is not exchanged is kept: the weights of a place add up to 1
    kept = 1 - torch.zeros(length, length).double().index_add(1, places, weights)
    scores[:, choice, range(length)] = kept
    scores[range(length), :, range(length)] = -torch.inf
    scores[range(length), choice, range(length)] = 0
    proposals: Tensor = scores.argmax(1).unique(dim=0)
    return proposals
