"""Many independent runs of L-BFGS in lock step: one evaluation of all functions, then one step of each.

The algorithm of each slot is `torch.optim.LBFGS` without line search: its first step, curvature test,
history, tolerances, and limits of iterations and evaluations per outer step. Only the two-loop
recursion is written differently, in a form that needs two passes over the history instead of four
(Byrd, Nocedal and Schnabel 1994, theorem 2.2): with R the upper triangle of S^T Y, D its diagonal and
gamma the scale of the initial inverse Hessian,

    a = -R^-1 S^T g        c = R^-T (D a + gamma (Y^T g + Y^T Y a))
    direction = -gamma (g + Y a) + S c

R^-1 and Y^T Y are stored. A new pair appends a column to R, and dropping an old pair removes its first row
and column; neither changes the rest of R^-1, so each step computes only one column.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.sums import row_products, row_sums

CURVATURE = 1e-10  # pairs with less are skipped, as in torch.optim.LBFGS


@dataclass(frozen=True)
class Settings:
    """The arguments of `torch.optim.LBFGS`."""

    lr: float = 1.0
    max_iter: int = 20
    max_eval: int = 25
    history_size: int = 100
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9


class LockStepLBFGS:
    """The state of B runs, one per slot; see `Stepper`."""

    def __init__(self, slots: int, size: int, settings: Settings, device: torch.device, dtype: torch.dtype):
        self.settings = settings

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, device=device)

        memory = settings.history_size
        self.x = zeros(size)
        self.value = zeros()
        self.moved = zeros(size)  # the last step
        self.largest_move = zeros()  # its largest entry
        self.gradient = zeros(size)  # where the last step began
        self.loss = zeros()  # where the last step began
        self.gamma = zeros()
        # the following are ring buffers, for S and Y: a new pair replaces the oldest one
        self.rows = zeros(2 * memory + 1, size)  # S, Y, and one row for discarded vectors
        self.oldest = zeros(dtype=torch.int64)
        self.inverse = zeros(memory, memory)  # R^-1
        self.diagonal = zeros(memory)  # D
        self.y_y = zeros(memory, memory)  # Y^T Y
        self.s_g = zeros(memory)  # S^T g, where the last step began
        self.y_g = zeros(memory)
        self.iteration = zeros(dtype=torch.int64)  # within the outer step
        self.evaluations = zeros(dtype=torch.int64)  # within the outer step
        self.begun = zeros(dtype=torch.bool)  # whether a step was ever taken

    @property
    def pairs(self) -> Tensor:
        """S above Y: (B, 2 history, size)."""
        return self.rows[:, :-1]

    @property
    def at(self) -> Tensor:
        """See `Stepper.at`."""
        return self.x

    def restart(self, slot: int, x: Tensor) -> None:
        """See `Stepper.restart`."""
        self.forget(slot)
        self.x[slot] = x
        for state in (self.moved, self.iteration, self.begun):
            state[slot] = 0

    def resume(self, slot: int, x: Tensor) -> None:
        """See `Stepper.resume`."""
        self.restart(slot, x)

    def forget(self, slot: int) -> None:
        """Discard all pairs of that slot."""
        for table in (self.rows, self.inverse, self.diagonal, self.y_y, self.s_g, self.y_g, self.oldest):
            table[slot] = 0
        self.gamma[slot] = 1

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """See `Stepper.arrive`."""
        limits = self.settings
        self.value.copy_(loss)
        within = (self.iteration > 0) & (self.iteration < limits.max_iter)
        self.evaluations += within
        done = (
            (self.evaluations >= limits.max_eval)
            | self._is_flat(gradient)
            | (self.largest_move <= limits.tolerance_change)
            | ((loss - self.loss).abs() < limits.tolerance_change)
        )
        ended = ~within | done
        self.iteration.masked_fill_(ended, 0)
        self.evaluations.masked_fill_(ended, 1)
        return ended

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """See `Stepper.depart`.

        A run whose gradient vanishes at the start of an outer step, or whose direction does not
        descend, stays where it is, and its outer step ends there. It will never move again, since
        its state no longer changes.
        """
        limits = self.settings
        self._remember(gradient)
        direction = self._direction(gradient)
        descends = ~(row_products(gradient, direction) > -limits.tolerance_change)
        stays = ~descends | ((self.iteration == 0) & self._is_flat(gradient))
        first = limits.lr * (1 / row_sums(gradient.abs())).clamp(max=1)
        length = torch.where(self.begun, limits.lr, first)
        torch.mul(length[:, None], direction, out=self.moved)
        self.moved.masked_fill_(stays[:, None], 0)
        self.x += self.moved
        self.largest_move.copy_(self.moved.abs().amax(1))
        self.gradient.copy_(gradient)
        self.loss.copy_(loss)
        self.iteration += 1
        self.iteration.masked_fill_(stays, 0)
        self.begun.fill_(True)

    def stuck(self, slots: list[int], since: Tensor) -> Tensor:
        """See `Stepper.stuck`: if an outer step changed nothing, later ones will not either."""
        return (self.x[slots] == since).all(1)

    def _is_flat(self, gradient: Tensor) -> Tensor:
        return gradient.abs().amax(1) <= self.settings.tolerance_grad

    def _remember(self, gradient: Tensor) -> None:
        """Replace the oldest pair by that of the last step, (s, y), if it has enough curvature."""
        memory, place = self.settings.history_size, self.oldest
        s, y = self.moved, gradient - self.gradient
        curvature, y_square = row_products(s, y), row_products(y, y)
        new = curvature > CURVATURE
        slots = torch.arange(len(new), device=new.device)

        def write(table: Tensor, where: tuple[slice | Tensor, ...], values: Tensor) -> None:
            table[where] = torch.where(new[:, None], values, table[where])

        for row, vector in ((place, s), (place + memory, y)):
            self.rows[slots, torch.where(new, row, 2 * memory)] = vector
        products = torch.bmm(gradient[:, None], self.pairs.mT)[:, 0]  # (B, 2 history)
        s_g, y_g = products.split(memory, 1)
        # s^T y of an older s is the present s^T g less the previous one: no third pass over the history
        s_y, y_y = s_g - self.s_g, y_g - self.y_g
        s_y[slots, place] = 0
        y_y[slots, place] = y_square
        write(self.y_y, (slots, place), y_y)
        write(self.y_y, (slots, slice(None), place), y_y)
        write(self.inverse, (slots, place), torch.zeros_like(s_y))
        column = torch.bmm(s_y[:, None], self.inverse.mT)[:, 0]
        column[slots, place] = -1
        write(self.inverse, (slots, slice(None), place), column / -curvature[:, None])
        self.diagonal[slots, place] = torch.where(new, curvature, self.diagonal[slots, place])
        self.gamma.copy_(torch.where(new, curvature / y_square, self.gamma))
        self.s_g.copy_(s_g)
        self.y_g.copy_(y_g)
        self.oldest.copy_(torch.where(new, (place + 1) % memory, place))

    def _direction(self, gradient: Tensor) -> Tensor:
        """Minus the inverse Hessian times the gradient, (B, size)."""
        gamma = self.gamma[:, None]
        # one row times a matrix, rather than a matrix times one column: five times faster in MKL
        a = -torch.bmm(self.s_g[:, None], self.inverse.mT)[:, 0]
        right = self.diagonal * a + gamma * (self.y_g + torch.bmm(a[:, None], self.y_y)[:, 0])
        c = torch.bmm(right[:, None], self.inverse)[:, 0]
        coefficients = torch.cat([c, -gamma * a], 1)
        return torch.bmm(coefficients[:, None], self.pairs)[:, 0] - gamma * gradient
