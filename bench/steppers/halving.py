"""L-BFGS that halves its step until the loss falls, with exactly one evaluation per iteration.

A line search with several evaluations would keep the other slots waiting. This one spends an iteration
on each evaluation: if the loss did not fall, the run stays where it is and tries half the step in the
next iteration. The loss never rises, so a run cannot diverge.
"""

import torch
from torch import Tensor

from leakbench.bench.steppers.lbfgs import LockStepLBFGS, Settings
from leakbench.bench.sums import row_sums

MOST_HALVINGS = 20  # per direction, down to a millionth of the step; then the history is discarded


class HalvingLBFGS(LockStepLBFGS):
    """The state of B runs; see `Stepper`.

    An outer step is `every` evaluations. The first step of a run, and the first after its history was
    discarded, follows the gradient and has the length of the first step of `torch.optim.LBFGS`.
    """

    def __init__(
        self, slots: int, size: int, settings: Settings, every: int, device: torch.device, dtype: torch.dtype
    ):
        super().__init__(slots, size, settings, device, dtype)
        self.every = every
        self.base = torch.zeros_like(self.x)  # the best point so far, where the next step begins
        self.halvings = torch.zeros_like(self.iteration)  # of the next step
        self.accepted = torch.zeros_like(self.begun)  # whether the loss fell in this evaluation
        self.ended = torch.zeros_like(self.begun)  # whether not even the shortest gradient step helped

    @property
    def at(self) -> Tensor:
        """See `Stepper.at`."""
        return self.base

    def restart(self, slot: int, x: Tensor) -> None:
        """See `Stepper.restart`."""
        self.forget(slot)
        self.resume(slot, x)

    def resume(self, slot: int, x: Tensor) -> None:
        """See `Stepper.resume`: the pairs are kept, as the curvature of similar functions differs little."""
        for place in (self.x, self.base):
            place[slot] = x
        for state in (self.moved, self.begun, self.halvings, self.evaluations, self.ended):
            state[slot] = 0

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """See `Stepper.arrive`."""
        finite = loss.isfinite() & gradient.isfinite().all(1)
        self.accepted.copy_(~self.begun | (finite & (loss < self.value)))
        self.value.copy_(torch.where(self.accepted, loss, self.value))
        self.base.copy_(torch.where(self.accepted[:, None], self.x, self.base))
        boundary = self.evaluations % self.every == 0
        self.evaluations += 1
        return boundary

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """See `Stepper.depart`."""
        accepted = self.accepted[:, None]
        # a rejected point adds no pair: a step of zero has no curvature
        self.moved.masked_fill_(~accepted, 0)
        here = torch.where(accepted, gradient, self.gradient)
        self.halvings.copy_(torch.where(self.accepted, 0, self.halvings + 1))
        given_up = self.halvings > MOST_HALVINGS
        self._remember(here)
        self.ended |= given_up & self._is_new()
        for slot in given_up.nonzero()[:, 0].tolist():
            self.forget(slot)
            self.halvings[slot] = 0
        first = torch.where(self._is_new(), (1 / row_sums(here.abs())).clamp(max=1), 1.0)
        torch.mul((first * 0.5**self.halvings)[:, None], self._direction(here), out=self.moved)
        self.moved.masked_fill_(self.ended[:, None], 0)
        torch.add(self.base, self.moved, out=self.x)
        self.gradient.copy_(here)
        self.begun.fill_(True)

    def _is_new(self) -> Tensor:
        """Which runs, (B,), have no pairs and therefore follow the gradient."""
        return (self.diagonal == 0).all(1)

    def stuck(self, slots: list[int], since: Tensor) -> Tensor:
        """See `Stepper.stuck`."""
        return self.ended[slots]
