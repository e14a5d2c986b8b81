"""The best outer product for a matrix of which some entries may be missing."""

import torch
from torch import Tensor

ROUNDS = 100
TINY = 1e-300


def rank_one(matrix: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors a (m,) and b (n,) whose outer product is nearest to a matrix (m, n) in what was kept.

    Nearest in the sum of squares: for a whole matrix by its singular vectors, else each vector in turn by
    least squares, from there on.

    Args:
        matrix: float64.
        kept: 1 for each entry that counts, else 0.
    """
    left, sizes, right = torch.linalg.svd(matrix * kept, full_matrices=False)
    a, b = left[:, 0] * sizes[0], right[0]
    if bool(kept.all()):
        return a, b
    for _ in range(ROUNDS):
        b = (kept * matrix).T @ a / (kept.T @ a.square()).clamp(min=TINY)
        a = (kept * matrix) @ b / (kept @ b.square()).clamp(min=TINY)
    return a, b
