"""The rows of an embedding's gradient tell which pieces a text has, and how many places.

Only rows of pieces that occur get a gradient. Where the decoder of a masked language model has the same
weights, it adds (p - y) h^T for each hidden word to every row, and all of that lies in the space of the few
h. Under noise, rows of pieces that occur stand out from the others.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from leakbench.bench.attacks.base import Case, NotApplicableError
from leakbench.bench.attacks.token_layers import TokenLayers, decoder_bias
from leakbench.bench.modalities.texts import NOT_ASKED

DEVIATIONS = 5  # from the median row: of 30,000 rows of noise one gets there in a hundred trials
SPREAD = 1.4826  # of a normal distribution, in units of the median absolute deviation
ROUNDING = 1e-5  # of the largest row
PRECISION = 5e-7  # of the largest singular value, in float32
USUAL = 0.9  # the share of rows, the smallest ones, that no piece of a text is among
OPTIMAL = 2.858  # times the median singular value of noise (Gavish and Donoho 2014)
FITTED = 8192  # rows to which what a decoder adds is fitted: ten for each coefficient of 40 hidden words


def standing_out(rows: Tensor) -> Tensor:
    """Which of the rows (R, H), most of which are noise or zeros, are more than that: (R,), bool."""
    square = rows.square().sum(1)
    usual = square.median()
    spread = SPREAD * (square - usual).abs().median()
    found: Tensor = square > torch.maximum(usual + DEVIATIONS * spread, ROUNDING**2 * square.max())
    return found


def row_space(matrix: Tensor, most: int = 0) -> Tensor:
    """An orthonormal basis (r, H) of the rows (R, H) of a matrix of low rank, under noise or rounding.

    Args:
        matrix: the rows.
        most: how large the rank may be, if it may be more than half of H: as many of the largest singular
            values are not taken for noise.
    """
    if len(matrix) > matrix.shape[1]:  # of a smaller matrix with the same space
        squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
        values, rows = squares.clamp(min=0).sqrt(), vectors.T
    else:
        _, values, rows = torch.linalg.svd(matrix, full_matrices=False)
    noise = values.sort().values[: max(len(values) - most, len(values) // 4, 1)].median()
    least = max(OPTIMAL * float(noise), PRECISION * float(values.max()))
    basis: Tensor = rows[values > least]
    return basis


def outside(vectors: Tensor, basis: Tensor) -> Tensor:
    """The parts of vectors (..., H) that are orthogonal to a basis (r, H)."""
    return vectors - (vectors @ basis.T) @ basis


def word_rows(case: Case, layers: TokenLayers) -> Tensor:
    """The gradient of the word embedding (V, H), float64, without what a decoder adds to it.

    Raises:
        NotApplicableError: the embedding is not trained.
    """
    if layers.words_name is None:
        raise NotApplicableError("expected a trained word embedding, whose rows tell the pieces of a text")
    rows = case.shared[layers.words_name].double()
    return outside(rows, decoded(rows)) if is_tied(layers) else rows


def is_tied(layers: TokenLayers) -> bool:
    """Whether the decoder has the weights of the word embedding."""
    return layers.decoder is not None and layers.decoder.weight == layers.words_name


def decoded(rows: Tensor) -> Tensor:
    """A basis (r, H) of what a decoder with the same weights adds to all rows (V, H)."""
    square = rows.square().sum(1)
    return row_space(rows[square <= square.quantile(USUAL)])


def without_decoded(case: Case, layers: TokenLayers, tokens: Tensor, answers: Tensor | None) -> Tensor:
    """The gradient of the word embedding (V, H), float64, less what a decoder adds if the text is this one.

    Args:
        case: what was shared.
        layers: whose decoder has the same weights.
        tokens: the text (1, L), with its hidden words hidden.
        answers: these (1, L); None: unknown.
    """
    assert layers.words_name is not None
    shared = case.shared[layers.words_name].double()
    if answers is None or layers.decoder is None:
        return shared
    hidden = answers != NOT_ASKED
    inputs = layers.inputs(tokens, layers.decoder.layer)[hidden].double()  # h (k, H)
    with torch.no_grad():
        chances = layers.model(tokens).movedim(1, -1)[hidden].double().softmax(-1)  # p (k, V)
    errors = chances - functional.one_hot(answers[hidden], len(shared))
    left: Tensor = shared - errors.T @ inputs / len(inputs)
    return left.where(shared != 0, 0.0)  # what was pruned says nothing


def undecoded_rows(case: Case, layers: TokenLayers, pieces: Tensor) -> Tensor:
    """The rows (C, H) of pieces (C,), float64, without what a decoder adds to them, to rounding.

    It adds sum p h^T over the hidden words, and sum p to the decoder's bias, which is shared, too. Their
    ratio is a mean of the h weighted by p, a smooth function of the word's embedding in the space of the h.
    A quadratic one is fitted to the rows of pieces that do not occur.
    """
    assert layers.words_name is not None
    gradient = case.shared[layers.words_name]
    bias = decoder_bias(case)
    rows = gradient[pieces].double()
    if not is_tied(layers) or bias is None:
        return rows
    basis = decoded(gradient.double())
    square = gradient.square().sum(1)
    usual = ((square <= square.double().quantile(USUAL)) & (bias > 0)).nonzero()[:, 0]
    usual = usual[:: math.ceil(len(usual) / FITTED)]
    both = torch.cat([usual, pieces])
    place = layers.words.weight.detach()[both].double() @ basis.T  # (U + C, r)
    place = (place - place.mean(0)) / place.std(0)
    one, other = torch.triu_indices(len(basis), len(basis))
    terms = torch.cat([torch.ones_like(place[:, :1]), place, place[:, one] * place[:, other]], 1)
    terms = terms * bias[both, None].double()
    added = torch.linalg.lstsq(terms[: len(usual)], gradient[usual].double() @ basis.T).solution
    rows -= terms[len(usual) :] @ added @ basis
    return rows
