"""Many independent runs of L-BFGS in lock step: one evaluation of all functions, one step of each.

The algorithm of each slot is `torch.optim.LBFGS` without line search: its first step, curvature test,
history, tolerances, and limits of iterations and evaluations an outer step. Only the two-loop
recursion is written otherwise, in the form that needs two passes over the history instead of four
(Byrd, Nocedal and Schnabel 1994, theorem 2.2): with R the upper triangle of S^T Y, D its diagonal and
gamma the scale of the initial inverse Hessian,

    a = -R^-1 S^T g        c = R^-T (D a + gamma (Y^T g + Y^T Y a))
    direction = -gamma (g + Y a) + S c

S^T Y and Y^T Y are kept, and grow by one row and column a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CURVATURE = 1e-10  # pairs with less of it are skipped, as in torch.optim.LBFGS


@dataclass(frozen=True)
class Settings:
    """As the arguments of `torch.optim.LBFGS`."""

    lr: float = 1.0
    max_iter: int = 20
    max_eval: int = 25
    history: int = 100
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9


class LockStepLBFGS:
    """The state of B runs, B being the number of slots.

    Use: put the starts into `x` and call `restart` for their slots; then, again and again, evaluate
    every function at its row of `x`, and call `arrive` and `depart` with what came out.
    """

    def __init__(self, slots: int, size: int, settings: Settings, device: torch.device, dtype: torch.dtype):
        self.settings = settings

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(slots, *shape, dtype=dtype, device=device)

        memory = settings.history
        self.x = zeros(size)
        self.direction = zeros(size)  # of the last step
        self.gradient = zeros(size)  # where the last step began
        self.loss = zeros()  # likewise
        self.t = zeros()  # length of the last step, in directions
        self.step_size = zeros()  # largest entry of the last step
        self.gamma = zeros()
        self.pairs = zeros(2 * memory, size)  # S above Y, each a ring
        self.oldest = zeros(dtype=torch.int64)  # row of the ring that is written next
        self.s_y = zeros(memory, memory)  # S^T Y, oldest pair first, the newest last
        self.y_y = zeros(memory, memory)  # Y^T Y, likewise
        self.s_g = zeros(memory)  # S^T g, where the last step began
        self.y_g = zeros(memory)
        self.iteration = zeros(dtype=torch.int64)  # within the outer step
        self.evaluations = zeros(dtype=torch.int64)  # within the outer step
        self.begun = zeros(dtype=torch.bool)  # whether a step was ever taken

    def restart(self, slot: int) -> None:
        """Forget the run in that slot; a new one starts from its `x`."""
        tables = (self.pairs, self.s_y, self.y_y, self.s_g, self.y_g)
        for state in (*tables, self.oldest, self.iteration, self.begun):
            state[slot] = 0
        self.gamma[slot] = 1

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Take note of the functions' values (B,) and gradients (B, size) at `x`.

        Returns:
            (B,) of bool: which runs have ended an outer step here; a fresh run has ended step 0.
        """
        limits = self.settings
        within = (self.iteration > 0) & (self.iteration < limits.max_iter)
        self.evaluations += within
        done = (
            (self.evaluations >= limits.max_eval)
            | (gradient.abs().amax(1) <= limits.tolerance_grad)
            | (self.step_size <= limits.tolerance_change)
            | ((loss - self.loss).abs() < limits.tolerance_change)
        )
        ended = ~within | done
        self.iteration.masked_fill_(ended, 0)
        self.evaluations.masked_fill_(ended, 1)
        return ended

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """Move every run by one iteration, from what `arrive` was told.

        A run whose gradient vanishes at the start of an outer step, or whose direction does not
        descend, stays where it is: its outer step ends there.
        """
        limits = self.settings
        at_rest = (self.iteration == 0) & (gradient.abs().amax(1) <= limits.tolerance_grad)
        go = ~at_rest
        self._remember(go, gradient)
        direction = self._direction(gradient)
        first = limits.lr * (1 / gradient.abs().sum(1)).clamp(max=1)
        t = torch.where(self.begun, torch.full_like(first, limits.lr), first)
        descends = ~((gradient * direction).sum(1) > -limits.tolerance_change)
        step = t[:, None] * direction
        self.x.copy_(torch.where((go & descends)[:, None], self.x + step, self.x))
        for state, value in (
            (self.direction, direction),
            (self.gradient, gradient),
            (self.loss, loss),
            (self.t, t),
            (self.step_size, step.abs().amax(1)),
        ):
            state.copy_(torch.where(go[:, None] if state.ndim == 2 else go, value, state))
        self.iteration += go
        self.iteration.masked_fill_(go & ~descends, 0)
        self.begun |= go

    def _remember(self, go: Tensor, gradient: Tensor) -> None:
        """Add the last step's pair (s, y) where it has curvature, in place of the oldest."""
        memory = self.settings.history
        s = self.t[:, None] * self.direction
        y = gradient - self.gradient
        curvature = (s * y).sum(1)
        new = go & self.begun & (curvature > CURVATURE)
        slots = torch.arange(len(new), device=new.device)
        for row, vector in ((self.oldest, s), (self.oldest + memory, y)):
            self.pairs[slots, row] = torch.where(new[:, None], vector, self.pairs[slots, row])
        self.oldest.copy_(torch.where(new, (self.oldest + 1) % memory, self.oldest))
        self.gamma.copy_(torch.where(new, curvature / y.square().sum(1), self.gamma))

        products = torch.bmm(gradient[:, None], self.pairs.mT)[:, 0]  # (B, 2 history)
        order = self._order()
        for table, past, ring, newest in (
            (self.s_y, self.s_g, products[:, :memory], curvature),
            (self.y_y, self.y_g, products[:, memory:], y.square().sum(1)),
        ):
            now = ring.gather(1, order)
            # s^T y of an older s is s^T g now less s^T g then: no third pass over the history
            column = torch.cat([now[:, :-1] - past[:, 1:], newest[:, None]], 1)
            moved = torch.where(new[:, None, None], table[:, 1:, 1:], table[:, :-1, :-1])
            table[:, :-1, :-1] = moved
            table[:, :, -1] = torch.where(new[:, None], column, table[:, :, -1])
            past.copy_(now)
        self.y_y[:, -1, :] = self.y_y[:, :, -1]

    def _order(self) -> Tensor:
        """(B, history): the rows of the ring, oldest pair first; what was never written counts as old."""
        memory = self.settings.history
        return (self.oldest[:, None] + torch.arange(memory, device=self.oldest.device)) % memory

    def _direction(self, gradient: Tensor) -> Tensor:
        """(B, size): minus the inverse Hessian times the gradient."""
        diagonal = self.s_y.diagonal(dim1=1, dim2=2)
        # a row never written is all zero: a one on its diagonal gives it the coefficient 0
        upper = self.s_y.triu() + torch.diag_embed((diagonal == 0).to(diagonal.dtype))
        gamma = self.gamma[:, None]
        a = torch.linalg.solve_triangular(upper, -self.s_g[..., None], upper=True)  # (B, history, 1)
        right = diagonal * a[..., 0] + gamma * (self.y_g + (self.y_y @ a)[..., 0])
        c = torch.linalg.solve_triangular(upper.mT, right[..., None], upper=False)[..., 0]
        order, memory = self._order(), self.settings.history
        coefficients = torch.zeros_like(self.pairs[..., 0])  # (B, 2 history), in the order of the ring
        coefficients.scatter_(1, order, c)
        coefficients.scatter_(1, order + memory, -gamma * a[..., 0])
        return torch.bmm(coefficients[:, None], self.pairs)[:, 0] - gamma * gradient
