"""The images behind mixtures of them: independent component analysis of their edges."""

import torch
from torch import Tensor

STARTS = 4
STEPS = 100
ROUND = 0.1  # of an edge, relative to the root mean square: below it, |edge| is rounded off
SINGULAR = 1e-6  # relative variance from which on mixtures differ


def unmixed(images: Tensor) -> Tensor:
    """N images of which those given (N, C, H, W) are means, with weights that nobody knows.

    Edges of images are sparse and those of different images have little to do with each other, so the most
    likely images are those whose edges are independent and have a Laplace distribution: independent
    component analysis by maximum likelihood (Bell and Sejnowski 1995; Hyvarinen and Oja 2000, section 4.4).
    Weights of a mean sum up to 1, which gives the scale. Their order is lost. If two mixtures are the same,
    nothing can be undone.
    """
    edges = _edges(images).double()
    values, axes = torch.linalg.eigh(edges @ edges.T / max(edges.shape[1], 1))
    if len(images) < 2 or values[0] <= SINGULAR * values[-1]:
        return images
    whitening = axes / values.sqrt() @ axes.T
    matrix = _separating(whitening @ edges) @ whitening
    matrix = matrix / matrix.sum(1, keepdim=True)
    found = (matrix @ images.flatten(1).double()).clamp(0, 1)
    return found.to(images.dtype).view_as(images) if bool(found.isfinite().all()) else images


def _edges(images: Tensor) -> Tensor:
    """Differences between neighbours, (N, edges)."""
    across, down = images.diff(dim=3), images.diff(dim=2)
    return torch.cat([across.flatten(1), down.flatten(1)], 1)


def _separating(edges: Tensor) -> Tensor:
    """The matrix (N, N) that makes white edges (N, edges) as independent as possible, of several starts."""
    generator, count = torch.Generator().manual_seed(0), len(edges)
    best, least = torch.eye(count, dtype=edges.dtype), torch.inf
    for number in range(STARTS):
        drawn = torch.randn(count, count, generator=generator, dtype=edges.dtype)
        start = torch.eye(count, dtype=edges.dtype) if number == 0 else torch.linalg.qr(drawn).Q
        matrix = start.contiguous().requires_grad_()
        steps = torch.optim.LBFGS([matrix], max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss(matrix: Tensor = matrix, steps: torch.optim.Optimizer = steps) -> Tensor:
            steps.zero_grad()
            value = _unlikeliness(matrix, edges)
            value.backward()
            return value

        steps.step(loss)
        value = float(loss().detach())
        if value < least:
            best, least = matrix.detach(), value
    return best


def _unlikeliness(matrix: Tensor, edges: Tensor) -> Tensor:
    """The negative log-likelihood of a separating matrix per edge, each row at its best scale."""
    parts = matrix @ edges
    size = parts.square().mean(1, keepdim=True).sqrt()
    rounded = ((parts / size).square() + ROUND**2).sqrt().mean(1)
    volume: Tensor = torch.linalg.slogdet(matrix).logabsdet
    return (rounded * size[:, 0]).log().sum() - volume
