"""What random rounding does to a tensor, as it can be estimated from the result."""

from torch import Tensor


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
