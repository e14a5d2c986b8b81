"""The number of independent equations, and how well they determine the unknowns."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from leakbench.bench.equations import Slopes, Vector
from leakbench.core.randomness import generator_for

DENSE = 2**26  # most entries of a matrix that is built: 512 MiB
SIDE = 4096  # the longest shorter side of such a matrix: half a minute
TOGETHER = 64  # columns computed at once
RESOLVED = 1e-10  # relative to the largest eigenvalue of A'A; smaller ones are lost in rounding errors
PROBES = 4  # random vectors per estimate
STEPS = 80  # of Lanczos per vector
SEEN = 0.02  # relative to the largest singular value; an estimate counts the larger ones


@dataclass(frozen=True)
class Spectrum:
    """The rank and the extreme singular values of a matrix."""

    rank: float  # a whole number if it is exact
    largest: float  # singular value
    smallest: float  # singular value that counts for the rank
    error: float | None = None  # two standard errors of the rank; None: it is exact

    @property
    def condition(self) -> float:
        """Largest over smallest: the most that a relative error may grow; for an estimate, a lower bound."""
        return self.largest / self.smallest if self.smallest else math.inf


def spectrum_of(equations: Slopes) -> Spectrum:
    """The spectrum of a block's equations, by the cheapest method that applies."""
    layer = _linear_layer(equations)
    if layer and layer.weights is None:
        return _counted(layer.columns.sort(descending=True).values, len(layer.columns))
    rows, unknowns = equations.shape
    rows = unknowns + equations.slope.numel() if layer else rows
    if rows * unknowns <= DENSE and min(rows, unknowns) <= SIDE:
        return dense(layer.matrix() if layer else matrix_of(equations))
    return estimated(equations.times, equations.transposed_times, unknowns)


def matrix_of(equations: Slopes) -> Tensor:
    """The equations as a matrix (equations, unknowns)."""
    rows, unknowns = equations.shape
    each = equations.transposed_times_each if rows < unknowns else equations.times_each
    one = torch.eye(min(rows, unknowns), dtype=torch.float64)
    matrix = torch.cat([each(some) for some in one.split(TOGETHER)])
    return matrix if rows < unknowns else matrix.T


def dense(matrix: Tensor) -> Spectrum:
    """The exact spectrum of a matrix (m, n), float64, with the rank as numpy's `matrix_rank` defines it.

    Uses the eigenvalues of the Gram matrix, in a quarter of the time, if none of them is close to 0.
    """
    told = matrix[matrix.any(1)]
    if not len(told):
        return Spectrum(0, 0.0, 0.0)
    squares = torch.linalg.eigvalsh(told @ told.T if len(told) < told.shape[1] else told.T @ told)
    resolved = bool(squares[0] > RESOLVED * squares[-1])
    values = squares.flip(0).sqrt() if resolved else torch.linalg.svdvals(told)
    return _counted(values, max(matrix.shape))


def _counted(values: Tensor, longer: int) -> Spectrum:
    """The spectrum for singular values in descending order; `longer` is the longer side of the matrix."""
    counted = values[values > longer * torch.finfo(torch.float64).eps * values[0]]
    return Spectrum(len(counted), float(values[0]), float(counted[-1]) if len(counted) else 0.0)


def estimated(
    times: Callable[[Vector], Vector], transposed_times: Callable[[Vector], Vector], unknowns: int
) -> Spectrum:
    """The number of singular values above SEEN times the largest, estimated by Lanczos quadrature.

    Ubaru and Saad 2016, "Fast methods for estimating the numerical rank of large matrices", section 4:
    the weights of the Ritz values of A'A from a random vector estimate the density of its eigenvalues.

    Args:
        times: maps x (unknowns,) to A x.
        transposed_times: maps y to A' y.
        unknowns: the number of columns of A.
    """
    generator = generator_for("probes of a rank")
    ritz = [
        _lanczos(times, transposed_times, torch.randn(unknowns, generator=generator, dtype=torch.float64))
        for _ in range(PROBES)
    ]
    largest = max(float(values[-1]) for values, _ in ritz)
    if largest <= 0:
        return Spectrum(0, 0.0, 0.0)
    counted = [values > SEEN**2 * largest for values, _ in ritz]
    shares = np.array([weights[own].sum() for (_, weights), own in zip(ritz, counted, strict=True)])
    smallest = min(float(values[own][0]) for (values, _), own in zip(ritz, counted, strict=True))
    error = 2 * unknowns * float(shares.std(ddof=1)) / math.sqrt(PROBES)
    return Spectrum(unknowns * float(shares.mean()), largest**0.5, smallest**0.5, error)


def _lanczos(
    times: Callable[[Vector], Vector], transposed_times: Callable[[Vector], Vector], start: Tensor
) -> tuple[Vector, Vector]:
    """The Ritz values of A'A for a start vector, ascending, and their weights, which sum to 1."""
    basis = [(start / start.norm()).numpy()]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(STEPS, len(start))):
        step = transposed_times(times(basis[-1]))
        diagonal.append(float(step @ basis[-1]))
        for _ in range(2):  # a single pass loses orthogonality
            for each in basis:
                step = step - (step @ each) * each
        size = float(np.linalg.norm(step))
        if size <= 1e-12 * max(diagonal):
            break
        beside.append(size)
        basis.append(step / size)
    values, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside[: len(diagonal) - 1]))
    return values, np.square(vectors[0])


@dataclass(frozen=True)
class _LinearLayer:
    """A fully connected block: a matrix with far fewer rows has the same A'A."""

    weights: Tensor | None  # (outputs, unknowns), the weight equations; None: there are none
    columns: Tensor  # (unknowns,), the norms of the columns of the gradient equations, which share no rows

    def matrix(self) -> Tensor:
        assert self.weights is not None
        return torch.cat([self.weights, self.columns.diag()])


def _linear_layer(equations: Slopes) -> _LinearLayer | None:
    """A block as a fully connected layer; None if it is something else.

    Each row of its weight gradient contains every unknown once, times the slope of the row's output.
    """
    unknowns, outputs = equations.shape[1], equations.slope.numel()
    if len(equations.tied) != 1 or equations.kept[equations.tied[0]].shape != (outputs, unknowns):
        return None
    (name,) = equations.tied
    weighed = equations.scales[1] * equations.kept[name] * equations.slope.view(-1, 1)
    probe = torch.randn(unknowns, generator=generator_for("is it a layer"), dtype=torch.float64)
    rows = torch.from_numpy(equations.times(probe.numpy()))
    if not torch.allclose(rows[-weighed.numel() :], (weighed * probe).flatten()):
        return None
    columns = weighed.square().sum(0).sqrt()
    if equations.output is None:
        return _LinearLayer(None, columns)
    own = equations.weights[name].detach()
    return _LinearLayer(equations.scales[0] * equations.output.trust.view(-1, 1) * own, columns)
