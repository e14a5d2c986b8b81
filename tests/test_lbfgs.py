"""Lock-step L-BFGS against `torch.optim.LBFGS`, run by run, on functions whose end is known."""

from dataclasses import asdict

import pytest
import torch

from leakbench.bench.steppers import LockStepLBFGS
from leakbench.bench.steppers.lbfgs import Settings

pytestmark = pytest.mark.numeric

SIZE = 12


def quadratic(scale):
    """An ill-conditioned bowl: converges."""
    weights = torch.linspace(1, scale, SIZE, dtype=torch.float64)
    return lambda x: 0.5 * (weights * (x - 1).square()).sum()


def rosenbrock(x):
    """A bent valley: long steps that a line search would refuse."""
    return (100 * (x[1:] - x[:-1].square()).square() + (1 - x[:-1]).square()).sum() * 1e-2


def ridge(x):
    """|x| has no curvature but at its kink: pairs with s.y = 0 are skipped."""
    return x.abs().sum()


def runaway(x):
    """Falls for ever, faster and faster: diverges."""
    return -x.pow(4).sum() - x.sum()


def flat(x):
    """Its gradient is below every tolerance."""
    return 1e-9 * x.sum()


FUNCTIONS = [quadratic(10), quadratic(1e3), rosenbrock, ridge, runaway, flat, torch.Tensor.norm]
START = torch.linspace(-1, 0.7, SIZE, dtype=torch.float64)


def reference(function, settings, outer_steps):
    """[(x, loss)] at every evaluation of an outer step's end."""
    x = START.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], **asdict(settings))

    def closure():
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    ends = []
    for _ in range(outer_steps):
        optimizer.step(closure)
        ends.append(x.detach().clone())
    return ends


def lock_step(functions, settings, outer_steps):
    """The same for many functions at once."""
    optimizer = LockStepLBFGS(len(functions), SIZE, settings, torch.device("cpu"), torch.float64)
    for slot in range(len(functions)):
        optimizer.restart(slot, START)
    ends = [[] for _ in functions]
    for _ in range(outer_steps * (settings.max_iter + 2)):
        points = optimizer.x.clone().requires_grad_()
        losses = torch.stack([function(x) for function, x in zip(functions, points, strict=True)])
        (gradients,) = torch.autograd.grad(losses.sum(), points)
        for slot in optimizer.arrive(losses.detach(), gradients).nonzero()[:, 0].tolist():
            ends[slot].append(optimizer.x[slot].clone())
        optimizer.depart(losses.detach(), gradients)
    return [run[1 : outer_steps + 1] for run in ends]  # without the start


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(history_size=3),
        Settings(max_iter=4, max_eval=3),
        Settings(lr=0.1, max_iter=7),
        Settings(max_iter=1),
        Settings(tolerance_grad=1e-2),
        Settings(tolerance_change=1e-2),
    ],
    ids=str,
)
def test_every_run_is_the_run_of_pytorch(settings):
    outer_steps = max(2, 40 // settings.max_iter)
    found = lock_step(FUNCTIONS, settings, outer_steps)
    for function, ends in zip(FUNCTIONS, found, strict=True):
        expected = reference(function, settings, outer_steps)
        assert len(ends) == outer_steps
        for x, y in zip(ends, expected, strict=True):
            if not y.abs().max() < 1e6:  # run away: infinities come in another order
                assert not x.abs().max() < 1e6
                break
            torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6)


def test_a_run_does_not_depend_on_its_neighbours():
    together = lock_step(FUNCTIONS, Settings(), 3)
    turned = lock_step(FUNCTIONS[::-1], Settings(), 3)[::-1]
    for ends, others in zip(together, turned, strict=True):
        assert all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(ends, others, strict=True))


def test_a_slot_that_is_taken_again_starts_anew():
    optimizer = LockStepLBFGS(1, SIZE, Settings(), torch.device("cpu"), torch.float64)
    runs = []
    for _ in range(2):
        optimizer.restart(0, START)
        run = []
        for _ in range(30):
            points = optimizer.x.clone().requires_grad_()
            losses = rosenbrock(points[0])[None]
            (gradients,) = torch.autograd.grad(losses.sum(), points)
            optimizer.arrive(losses.detach(), gradients)
            optimizer.depart(losses.detach(), gradients)
            run.append(optimizer.x[0].clone())
        runs.append(torch.stack(run))
    assert torch.equal(*runs)
