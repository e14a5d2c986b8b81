"""Adam in lock step (Kingma and Ba 2015), plain or of the gradient's signs, with a rate that falls."""

from dataclasses import dataclass

import torch
from torch import Tensor

FALLS = (3 / 8, 5 / 8, 7 / 8)  # of the steps: there the rate falls to a tenth, as in Geiping et al.'s code


@dataclass(frozen=True)
class Settings:
    """As the arguments of `torch.optim.Adam`, and what the rate and the box are."""

    lr: float = 0.1
    steps: int = 1000  # evaluations, over which the rate falls
    every: int = 10  # evaluations an outer step
    signed: bool = True  # the gradient's signs in place of it
    box: tuple[float, float] | None = None  # where x is kept after each step
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
        # by number of evaluations: a power taken of all slots at once has other bits in other widths
        counts, (first, second) = range(settings.steps + 1), settings.betas
        self.tables = (  # of no slot: a tuple
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
        """See `Stepper.resume`: its moments are kept, and its rate goes on falling."""
        self.x[slot] = x
        self.evaluations[slot] -= 1  # from where it stands a step was taken already

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
        """See `Stepper.stuck`; never, since its moments are states of their own."""
        return torch.zeros(len(slots), dtype=torch.bool, device=self.x.device)


def _falls(count: int, steps: int) -> int:
    """How often the rate has fallen at that step, counted from 1."""
    return sum(count - 1 >= share * steps for share in FALLS)
