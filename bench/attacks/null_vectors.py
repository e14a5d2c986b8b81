"""Separates several images in one gradient of a fully connected layer by the zeros of a ReLU.

SPEAR: Dimitrov et al. 2024, "SPEAR: Exact Gradient Inversion of Batches in Federated Learning". The gradient
of the weights is D X, where each row of X (N, pixels) is an image, and each column of D (m, N) is the
slope of the loss in the layer's outputs for that image, which is 0 wherever the ReLU is. A factorisation
of rank N gives D Q^-1 and Q X for some Q (N, N), and the columns of Q are the directions that map many
rows of D Q^-1 to 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DRAWS = 3000  # per round, each of N - 1 rows
ROUNDS = 100  # the most rounds of draws
IDLE = 25  # the search ends after so many rounds in a row without a new direction
LOUD = 10.0  # times the noise; smaller rows are not used
NEAR = 3.0  # times the noise; rows up to this count as 0
LEAST = 1e-5  # relative to a row; rounding alone leaves this much
ALIKE = 0.99  # directions whose slopes have a larger cosine count as equal


@dataclass(frozen=True)
class Separated:
    """The k images that could be separated; k may be less than N."""

    images: Tensor  # (k, pixels)
    slopes: Tensor  # (m, k)


def separate(weight: Tensor, bias: Tensor, count: int, generator: torch.Generator) -> Separated:
    """Separate the images whose gradients sum to the gradient of a first layer.

    Args:
        weight: the gradient of the layer's weights, (m, pixels), float64.
        bias: the gradient of the layer's bias, (m,), float64.
        count: the number of images, N.
        generator: for the choice of rows.
    """
    left, sizes, right = torch.linalg.svd(torch.cat([weight, bias[:, None]], 1), full_matrices=False)
    rows = left[:, :count] * sizes[:count]  # (m, N)
    freedom = (len(left) - count) * (right.shape[1] - count)
    noise = float(sizes[count:].square().sum() / max(freedom, 1)) ** 0.5  # of each entry of the gradient
    lengths = rows.norm(dim=1)
    directions = _directions(rows[lengths > max(LOUD * noise, 1e-3 * float(lengths.max()))], noise, generator)
    slopes = rows @ directions.T
    # the gradient of the bias is the sum of the slopes
    shares = torch.linalg.lstsq(slopes, bias[:, None]).solution[:, 0] if len(directions) else bias[:0]
    images = torch.linalg.pinv(directions.T * shares) @ right[:count, :-1]
    return Separated(images, slopes * shares)


def _directions(rows: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """At most N directions (k, N) that map the most rows (m, N) to 0; the best come first."""
    count = rows.shape[1]
    best, idle = rows.new_zeros(0, count), 0
    lengths = rows.norm(dim=1)
    near = (NEAR * noise / lengths).clamp(min=LEAST)
    for _ in range(ROUNDS if len(rows) > count else 0):
        drawn = _drawn(rows / lengths[:, None], near, generator)
        known = len(best)
        best, new = _distinct(torch.cat([best, drawn]), rows, near * lengths, known)
        idle = 0 if new else idle + 1
        if idle == IDLE:
            break
    return best


def _drawn(units: Tensor, near: Tensor, generator: torch.Generator) -> Tensor:
    """Directions (k, N) that map N - 1 randomly drawn rows, and others, to 0."""
    count = units.shape[1]
    order = torch.rand(DRAWS, len(units), generator=generator).topk(count - 1).indices
    _, sizes, right = torch.linalg.svd(units[order])
    # if a second direction maps these rows to 0, each of the two is a mixture
    null = right[sizes[:, -1] > LOUD * near.median()][:, -1]  # (draws, N)
    zeros = (units @ null.T).abs() <= near[:, None]  # (m, draws)
    zeros = zeros[:, zeros.sum(0) >= 3 * count]
    squares = (units[:, :, None] * units[:, None, :]).flatten(1)  # (m, N * N)
    grams = zeros.T.to(units.dtype) @ squares  # of the rows that each direction maps to 0
    fits: Tensor = torch.linalg.eigh(grams.unflatten(1, (count, count))).eigenvectors[..., 0]
    return fits


def _distinct(directions: Tensor, rows: Tensor, near: Tensor, known: int) -> tuple[Tensor, bool]:
    """The N directions (k, N) that map most rows to 0, and whether one is not among the first `known`."""
    slopes = rows @ directions.T  # (m, k)
    zeros = (slopes.abs() <= near[:, None]).sum(0)
    slopes = torch.nn.functional.normalize(slopes, dim=0)
    left = zeros.argsort(descending=True, stable=True)
    chosen: list[int] = []
    while len(left) and len(chosen) < directions.shape[1]:
        first, left = left[0], left[1:]
        chosen.append(int(first))
        left = left[((slopes.T @ slopes[:, first]).abs() <= ALIKE)[left]]
    return directions[chosen], max(chosen, default=0) >= known
