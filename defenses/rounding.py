"""Random rounding of a tensor, and what it did, as it can be estimated from the result."""

import torch
from torch import Tensor


def rounded(gradient: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
    """Each entry as one of the two multiples of a float64 step next to it, at random and without bias."""
    if step == 0:
        return gradient.clone()
    level = gradient.abs().double() / step
    up = torch.rand(gradient.shape, dtype=torch.float64, generator=generator) < level.frac()
    multiple: Tensor = gradient.sign() * step * (level.floor() + up)
    return multiple.to(gradient.dtype)


def least(shared: Tensor) -> float:
    """The smallest magnitude but 0; 0 if there is no other."""
    sizes = shared.abs()
    return float(sizes[sizes > 0].min()) if bool(shared.any()) else 0.0


def mean_square(shared: Tensor, step: float, rounds: int = 1) -> float:
    """Of the errors of unbiased rounding to multiples of a step, in the mean over rounds; an upper estimate.

    An entry between two of them, at the share p of the way, has the variance step^2 p (1 - p): at most
    step^2 / 4, and at most step times its size, whose mean is that of what was shared.
    """
    sizes = float(shared.abs().double().mean()) if shared.numel() else 0.0
    return min(step * sizes, step**2 / 4) / rounds
