"""Adam in lock step (Kingma and Ba 2015), plain or on the gradient's signs, with a decaying learning rate."""

from dataclasses import dataclass

import torch
from torch import Tensor

FALLS = (3 / 8, 5 / 8, 7 / 8)  # of the steps; there the rate drops tenfold, as in Geiping et al.'s code


@dataclass(frozen=True)
class Settings:
    """The arguments of `torch.optim.Adam`, the decay of the rate, and bounds."""

    lr: float = 0.1
    steps: int = 1000  # evaluations over which the rate decays
    every: int = 10  # evaluations per outer step
    signed: bool = True  # use the signs of the gradient instead of the gradient
    box: tuple[float, float] | None = None  # bounds that x is clamped to after each step
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


class LockStepAdam:
    """The state of B runs; see `Stepper`."""

    def __init__(self, slots: int, size: int, settings: Settings, device: torch.device, dtype: torch.dtype):
        self.settings = settings
        self.x = torch.zeros(slots, size, dtype=dtype, device=device)
        self.value = self.x.new_zeros(slots)
        self.mean = torch.zeros_like(self.x)
        self.square = torch.zeros_like(self.x)
        self.evaluations = torch.zeros(slots, dtype=torch.int64, device=device)
        # indexed by evaluations: powers computed for all slots at once differ in their bits with the width
        counts, (first, second) = range(settings.steps + 1), settings.betas
        self.tables = (  # a tuple, as they do not belong to slots
            self.x.new_tensor([settings.lr * 0.1 ** _falls(n, settings.steps) for n in counts]),
            self.x.new_tensor([1 - first**n for n in counts]),
            self.x.new_tensor([1 - second**n for n in counts]),
        )

    @property
    def at(self) -> Tensor:
        """See `Stepper.at`."""
        return self.x

    def restart(self, slot: int, x: Tensor) -> None:
        """See `Stepper.restart`."""
        self.x[slot] = x
        for state in (self.mean, self.square, self.evaluations):
            state[slot] = 0

    def resume(self, slot: int, x: Tensor) -> None:
        """See `Stepper.resume`: the moments are kept, and the rate continues to decay."""
        self.x[slot] = x
        self.evaluations[slot] -= 1  # the step from this point has been counted already

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """See `Stepper.arrive`."""
        self.value.copy_(loss)
        return self.evaluations % self.settings.every == 0

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """See `Stepper.depart`."""
        settings, (first, second) = self.settings, self.settings.betas
        slope = gradient.sign() if settings.signed else gradient
        self.evaluations += 1
        count = self.evaluations.clamp(max=settings.steps)
        rate, in_mean, in_square = (table[count, None] for table in self.tables)  # (B, 1)
        self.mean.lerp_(slope, 1 - first)
        self.square.mul_(second).addcmul_(slope, slope, value=1 - second)
        mean, square = self.mean / in_mean, self.square / in_square
        self.x -= rate * mean / (square.sqrt() + settings.eps)
        if settings.box:
            self.x.clamp_(*settings.box)

    def stuck(self, slots: list[int], since: Tensor) -> Tensor:
        """See `Stepper.stuck`; always false, since the moments can still move a run."""
        return torch.zeros(len(slots), dtype=torch.bool, device=self.x.device)


def _falls(count: int, steps: int) -> int:
    """How often the rate has dropped at step `count`, counted from 1."""
    return sum(count - 1 >= share * steps for share in FALLS)
