"""The steppers compared with plain, slow code that does the same."""

import math

import pytest
import torch

from leakbench.bench.steppers import HalvingLBFGS, LockStepAdam
from leakbench.bench.steppers.adam import FALLS
from leakbench.bench.steppers.adam import Settings as AdamSettings
from leakbench.bench.steppers.halving import MOST_HALVINGS
from leakbench.bench.steppers.lbfgs import CURVATURE, Settings

SIZE, MEMORY, EVERY = 6, 4, 3
CPU, DOUBLE = torch.device("cpu"), torch.float64
STARTS = torch.linspace(-2, 2, SIZE, dtype=DOUBLE) + torch.arange(4, dtype=DOUBLE)[:, None]


def bowl(x):
    return (torch.logspace(0, 3, SIZE, dtype=DOUBLE) * x.square()).sum(-1)


def valley(x):
    """Rosenbrock's, whose floor is bent: whole steps go uphill time and again."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(-1)


def cliff(x):
    """Infinite where a whole step easily gets to."""
    return bowl(x) - torch.log(3 - x.abs().amax(-1))


def with_slope(function, x):
    x = x.detach().clone().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def followed(stepper, function, count, starts=STARTS):
    """[(points, values)] that the runs of a stepper evaluate."""
    for slot, start in enumerate(starts):
        stepper.restart(slot, start)
    seen = []
    for _ in range(count):
        value, slope = with_slope(function, stepper.x)
        seen.append((stepper.x.clone(), value))
        stepper.arrive(value, slope)
        stepper.depart(value, slope)
    return seen


def halving(slots=4, memory=MEMORY):
    return HalvingLBFGS(slots, SIZE, Settings(history_size=memory), EVERY, CPU, DOUBLE)


def plainly_halved(function, start, count):
    """The points that one run evaluates: L-BFGS by the two-loop recursion of Nocedal and Wright 2006."""
    base, pairs, halvings, seen = start, [], 0, []
    value, slope = with_slope(function, base)
    point = base
    for _ in range(count):
        there, slope_there = with_slope(function, point)
        seen.append(point)
        if len(seen) == 1 or there < value:
            s, y = point - base, slope_there - slope
            if s @ y > CURVATURE:
                pairs = [*pairs[1 - MEMORY :], (s, y)]
            base, value, slope, halvings = point, there, slope_there, 0
        else:
            halvings += 1
        if halvings > MOST_HALVINGS:
            pairs, halvings = [], 0
        direction, steps = slope.clone(), []
        for s, y in reversed(pairs):
            steps.append((s @ direction) / (s @ y))
            direction -= steps[-1] * y
        if pairs:
            s, y = pairs[-1]
            direction *= (s @ y) / (y @ y)
        for s, y in pairs:
            direction += (steps.pop() - (y @ direction) / (s @ y)) * s
        length = 1.0 if pairs else min(1.0, 1 / float(slope.abs().sum()))
        point = base - length * 0.5**halvings * direction
    return seen


@pytest.mark.parametrize("function", [bowl, valley, cliff], ids=lambda function: function.__name__)
def test_halving_evaluates_the_points_of_a_plain_rendering(function):
    seen = followed(halving(), function, 40, STARTS / 2)
    for slot, start in enumerate(STARTS / 2):
        expected = torch.stack(plainly_halved(function, start, 40))
        torch.testing.assert_close(
            torch.stack([points[slot] for points, _ in seen]), expected, rtol=1e-5, atol=1e-7
        )


def test_whole_steps_are_among_them_and_halved_ones():
    values = torch.stack([value for _, value in followed(halving(), valley, 100)])
    best = values.cummin(0).values
    rejected = (values[1:] >= best[:-1]).double().mean()
    assert 0.05 < rejected < 0.6


@pytest.mark.parametrize("function", [bowl, valley, cliff], ids=lambda function: function.__name__)
def test_halving_is_never_higher_than_before(function):
    stepper = halving()
    for slot, start in enumerate(STARTS / 2):
        stepper.restart(slot, start)
    last = torch.full((4,), math.inf, dtype=DOUBLE)
    for _ in range(300):
        value, slope = with_slope(function, stepper.x)
        stepper.arrive(value, slope)
        assert (stepper.value <= last).all()
        torch.testing.assert_close(function(stepper.at), stepper.value, rtol=0, atol=0)
        last = stepper.value.clone()
        stepper.depart(value, slope)
    least = {bowl: 0.0, valley: 4.0, cliff: -math.log(3)}  # the valley has a local minimum near 4
    assert (last < least[function] + 1e-3).all()


def test_an_outer_step_is_so_many_evaluations():
    stepper = halving()
    for slot, start in enumerate(STARTS):
        stepper.restart(slot, start)
    ended = []
    for _ in range(7):
        value, slope = with_slope(bowl, stepper.x)
        ended.append(bool(stepper.arrive(value, slope).all()))
        stepper.depart(value, slope)
    assert ended == [True, False, False, True, False, False, True]


def test_a_run_does_not_depend_on_the_others():
    together = followed(halving(), valley, 60)
    for slot, start in enumerate(STARTS):
        alone = followed(halving(1), valley, 60, start[None])
        assert all(torch.equal(a[slot], b[0]) for (a, _), (b, _) in zip(together, alone, strict=True))


def test_where_nothing_helps_a_run_is_stuck_and_stays():
    """A function whose slope points the wrong way."""
    stepper = halving(1)
    stepper.restart(0, STARTS[0])
    for _ in range(2 * MOST_HALVINGS + 4):
        value, slope = with_slope(bowl, stepper.x)
        stepper.arrive(value, -slope)
        assert torch.equal(stepper.at[0], STARTS[0])
        stepper.depart(value, -slope)
    assert bool(stepper.stuck([0], stepper.at))
    assert torch.equal(stepper.x[0], STARTS[0])


def test_a_history_that_leads_nowhere_is_forgotten_first():
    stepper = halving(1)
    followed(stepper, bowl, 5, STARTS[:1])
    assert bool(stepper.diagonal.any())
    for _ in range(MOST_HALVINGS + 2):
        stepper.arrive(torch.full((1,), math.nan, dtype=DOUBLE), torch.ones(1, SIZE, dtype=DOUBLE))
        stepper.depart(torch.full((1,), math.nan, dtype=DOUBLE), torch.ones(1, SIZE, dtype=DOUBLE))
    assert not bool(stepper.diagonal.any())
    assert not bool(stepper.stuck([0], stepper.at))


def test_pairs_are_kept_where_a_run_goes_on_with_another_function():
    stepper = halving(1)
    followed(stepper, bowl, 10, STARTS[:1])
    at, pairs = stepper.at[0].clone(), stepper.rows.clone()
    stepper.resume(0, at)
    assert torch.equal(stepper.rows, pairs)
    raised, slope = with_slope(lambda x: 2 * bowl(x) + 100, stepper.x)
    stepper.arrive(raised, slope)
    assert torch.equal(stepper.at[0], at)
    assert float(stepper.value) == float(raised)  # though it is higher than all before
    stepper.restart(0, at)
    assert not bool(stepper.rows[:, :-1].any())


@pytest.mark.parametrize("signed", [False, True])
def test_adam_is_the_one_of_pytorch(signed):
    settings = AdamSettings(lr=0.1, steps=40, every=5, signed=signed)
    seen = followed(LockStepAdam(4, SIZE, settings, CPU, DOUBLE), bowl, 40)
    for slot, start in enumerate(STARTS):
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.1)
        falls = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(40 * share) for share in FALLS], 0.1)
        for points, _ in seen:
            torch.testing.assert_close(points[slot], x.detach(), rtol=1e-12, atol=1e-12)
            _, slope = with_slope(bowl, x)
            x.grad = slope.sign() if signed else slope
            optimizer.step()
            falls.step()


def test_adam_keeps_to_its_box():
    settings = AdamSettings(lr=1.0, steps=100, box=(0.0, 1.0))
    seen = followed(LockStepAdam(4, SIZE, settings, CPU, DOUBLE), lambda x: bowl(x - 3), 20)
    assert all(float(points.min()) >= 0 and float(points.max()) <= 1 for points, _ in seen[1:])


def test_adam_goes_on_where_it_stood():
    """With its moments and its rate; the step that was taken for the last function is taken back."""
    settings = AdamSettings(lr=0.1, steps=40, every=5)
    stepper = LockStepAdam(1, SIZE, settings, CPU, DOUBLE)
    stepper.restart(0, STARTS[0])
    for _ in range(11):
        value, slope = with_slope(bowl, stepper.x)
        ended = stepper.arrive(value, slope)
        at = stepper.at[0].clone()
        stepper.depart(value, slope)
    assert bool(ended)  # the eleventh evaluation ends the second outer step
    stepper.resume(0, at)
    assert torch.equal(stepper.x[0], at)
    assert bool(stepper.arrive(value, slope))
    assert int(stepper.evaluations) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda slots: LockStepAdam(slots, 48, AdamSettings(steps=400), torch.device("cpu"), torch.float32),
        lambda slots: HalvingLBFGS(slots, 48, Settings(), 5, torch.device("cpu"), torch.float32),
    ],
    ids=["adam", "halving"],
)
def test_the_width_of_a_batch_changes_no_bit(make):
    """Functions of one number a slot are taken otherwise where there are enough slots for a vector."""
    generator = torch.Generator().manual_seed(0)
    starts, targets = (torch.randn(64, 48, generator=generator) for _ in range(2))
    ways = []
    for slots in (8, 64):
        stepper = make(slots)
        for slot in range(slots):
            stepper.restart(slot, starts[slot])
        for _ in range(400):
            apart = stepper.x - targets[:slots]
            loss, slope = apart.square().sum(1), 2 * apart
            stepper.arrive(loss, slope)
            stepper.depart(loss, slope)
        ways.append(stepper.x[:8].clone())
    assert torch.equal(*ways)
