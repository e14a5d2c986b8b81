"""The best rank-one fit to a matrix, some of whose entries may be missing."""

import torch
from torch import Tensor

from leakbench.defenses import Gradients

ROUNDS = 100
TINY = 1e-300


def rank_one(matrix: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors a (m,) and b (n,) whose outer product is closest to a matrix (m, n) in its kept entries.

    Closest in the sum of squares. A complete matrix is solved by its first singular vectors; otherwise
    alternating least squares starts from these.

    Args:
        matrix: (m, n), float64.
        kept: (m, n), 1 for each entry that counts, else 0.
    """
    known = kept * matrix
    left, sizes, right = torch.linalg.svd(known, full_matrices=False)
    a, b = left[:, 0] * sizes[0], right[0]
    if bool(kept.all()):
        return a, b
    for _ in range(ROUNDS):
        b = known.T @ a / (kept.T @ a.square()).clamp(min=TINY)
        a = known @ b / (kept @ b.square()).clamp(min=TINY)
    return a, b


def layer_of_rank_one(shared: Gradients, kept: Gradients, weight: str, bias: str) -> tuple[Tensor, Tensor]:
    """The slope of the loss in a linear layer's outputs (m,), and the layer's inputs (n,), for one image.

    The gradient of the layer's weights and bias together is the outer product of the slope and (inputs, 1).

    Args:
        shared: {parameter name: gradient}.
        kept: {parameter name: 1 for each entry that counts, else 0}.
        weight: the name of the layer's weights.
        bias: the name of its bias.
    """
    rows, mask = (torch.cat([each[weight], each[bias][:, None]], 1).double() for each in (shared, kept))
    slope, right = rank_one(rows, mask)
    return slope * right[-1], right[:-1] / right[-1]
