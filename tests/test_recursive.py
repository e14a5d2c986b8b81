"""The attack layer by layer, and the one by optimisation that begins where it ends."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leakbench.bench.attacks import ATTACKS, Case, Found, NotApplicableError, Resources, Spec, Status
from leakbench.bench.attacks.adaptive import Adaptive
from leakbench.bench.attacks.hybrid import Hybrid
from leakbench.bench.attacks.recursive import Recursive
from leakbench.bench.equations import Equations
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.trial import prepare
from leakbench.core.configured import SettingError
from leakbench.defenses import Account

DATA = Path("data")


def row_of(trial):
    (result,) = run_trials([trial], Conditions(Resources(slots=2)))
    return result.row


@pytest.mark.parametrize(
    ("model", "dataset", "defense"),
    [
        ("lenet", "cifar10-sample", "none"),
        ("lenet", "cifar10-sample", "prune(ratio=0.2)"),
        ("lenet", "lfw-subset", "none"),
        ("lenet(weights=default)", "cifar10-sample", "none"),
        ("lenet(activation=tanh, weights=default)", "cifar10-sample", "float16"),
        ("lenet(activation=relu)", "mnist-sample", "none"),
        ("mlp(hidden=[60,40], activation=tanh)", "mnist-sample", "int8"),
    ],
)
def test_networks_are_solved(make_trial, model, dataset, defense):
    row = row_of(make_trial(attack="recursive", model=model, dataset=dataset, defense=defense))
    assert row.ssim > 0.99
    assert row.label_correct
    assert (row.status, row.threat) == ("converged", "defense")
    assert row.reason.endswith("layers solved")


def plainly(model, shared, shape):
    """The image behind a gradient, with dense matrices: convolutions, sigmoids and a linear layer."""
    *convolutions, last = [
        (f"{place}", layer) for place, layer in enumerate(model) if list(layer.parameters())
    ]
    slope = shared[f"{last[0]}.bias"].double()  # p - y
    features = shared[f"{last[0]}.weight"].double().T @ slope / slope.square().sum()
    slope = slope @ last[1].weight.detach().double()
    for name, layer in reversed(convolutions):
        outputs = features.view(1, layer.out_channels, 4, 4)
        certain = (outputs * (1 - outputs)).flatten()
        slope = (slope.flatten() * certain).view(layer.out_channels, -1)
        size = shape if layer.in_channels == shape[0] else (layer.in_channels, 4, 4)
        units = torch.eye(int(np.prod(size)), dtype=torch.float64).view(-1, *size)
        convolve = partial(nn.functional.conv2d, stride=layer.stride, padding=layer.padding)
        linear = convolve(units, layer.weight.detach().double()).flatten(1).T
        patches = nn.functional.unfold(units, 3, padding=layer.padding, stride=layer.stride)
        gradient = torch.einsum("op,ukp->uok", slope, patches).flatten(1).T
        known = (outputs.logit() - layer.bias.detach().double()[:, None, None]).flatten()
        rows = [certain[:, None] * linear, gradient]
        right = [certain * known, shared[f"{name}.weight"].double().flatten()]
        scales = [each.square().sum(1).mean() ** -0.5 for each in rows]
        rows, right = (
            torch.cat([scale * each for scale, each in zip(scales, parts, strict=True)])
            for parts in (rows, right)
        )
        features = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
        slope = slope.flatten() @ linear
    return features.view(shape)


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, stride=2), nn.Sigmoid(),
        nn.Conv2d(6, 6, 3, padding=1), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(96, 4),
    )  # fmt: skip


def test_it_is_a_plain_rendering_with_dense_matrices():
    model, image = small_network(), torch.rand(1, 1, 8, 8)
    shared = shared_gradient(model, image, torch.tensor([2]))
    found = Recursive().invert(Case(0, model, shared, Spec((1, 8, 8), 4), (), Account()))
    plain = plainly(model, shared, (1, 8, 8))
    assert torch.allclose(found.x[0].double(), plain, atol=1e-3)
    assert torch.allclose(found.x, image, atol=1e-2)
    assert found.labels.tolist() == [2]


def test_what_was_dropped_counts_for_nothing():
    """Zeros in place of a tenth of the entries, with or without an account."""
    model, image = small_network(), torch.rand(1, 1, 8, 8)
    shared = shared_gradient(model, image, torch.tensor([2]))
    kept = {name: each.abs() >= each.abs().flatten().quantile(0.1) for name, each in shared.items()}
    pruned = {name: each * kept[name] for name, each in shared.items()}
    told, not_told = (
        Recursive().invert(Case(0, model, pruned, Spec((1, 8, 8), 4), (), account)).x - image
        for account in (Account(kept), None)
    )
    assert told.norm() < 0.1 * not_told.norm()


@pytest.mark.parametrize(
    ("model", "count", "text"),
    [
        (small_network(), 2, "expected a gradient of one image, got 2"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softplus()), 1, "come from an nn.Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False)), 1, "expected a last layer with a bias"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 4)),
            1,
            "expected layers one after the other: max_pool2d is neither linear nor an activation",
        ),
    ],
)
def test_what_it_cannot_take_is_said_before_the_start(model, count, text):
    shared = {name: torch.zeros_like(each) for name, each in model.named_parameters()}
    case = Case(0, model, shared, Spec((1, 8, 8), 4, count))
    assert text in Recursive().refusal(case)
    with pytest.raises(NotApplicableError, match="expected"):
        Recursive().invert(case)


def test_too_few_steps_are_reported():
    model = small_network()
    shared = shared_gradient(model, torch.rand(1, 1, 8, 8), torch.tensor([2]))
    found = Recursive(steps=3).invert(Case(0, model, shared, Spec((1, 8, 8), 4), (), Account()))
    assert found.status is Status.BUDGET
    assert found.reason == "2 of 3 layers stopped at the limit of 3 steps"


@pytest.mark.parametrize("attack", ["recursive", "hybrid(steps=2)", "linear"])
def test_a_gradient_of_nothing_gives_a_picture(attack):
    """As a network has that is sure of an image."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 4))
    shared = {name: torch.zeros_like(each) for name, each in model.named_parameters()}
    own = ATTACKS.parse(attack)
    cases = iter([Case(0, model, shared, Spec((1, 8, 8), 4), (), Account(variance=0.01))])
    ((_, found),) = own.run(cases, lambda *_: None, Resources())
    assert found.x.isfinite().all()


def test_steps_are_at_least_one():
    with pytest.raises(SettingError) as error:
        Recursive(steps=0)
    assert error.value.problems == [("steps", "expected a whole number in [1, 1000000000], got 0")]


# from there on by optimisation


@pytest.mark.parametrize(
    ("hybrid", "least"),
    [("hybrid(steps=50)", 0.87), pytest.param("hybrid", 0.95, marks=pytest.mark.long)],
)
def test_hybrid_goes_on_where_rounding_stops_the_equations(make_trial, hybrid, least):
    equations, both = (
        row_of(make_trial(attack=name, defense="bfloat16", index=1)) for name in ("recursive", hybrid)
    )
    assert equations.ssim < 0.8
    assert both.ssim > least


@pytest.mark.parametrize("steps", ["(steps=20)", pytest.param("", marks=pytest.mark.long)])
def test_hybrid_leaves_a_good_start_alone(make_trial, steps):
    """On a network whose gradient hardly feels the image, smoothing would win."""
    model = "lenet(weights=default)"
    assert row_of(make_trial(attack=f"hybrid{steps}", model=model)).ssim > 0.99
    assert row_of(make_trial(attack=f"adaptive{steps}", model=model)).ssim < 0.7


def test_hybrid_is_adaptive_from_another_start(make_trial):
    case, _, _ = prepare(make_trial(defense="gaussian(variance=0.00001)"), 0, DATA)
    case = Case(0, case.model, case.shared, case.spec, case.purpose, Account(variance=1e-5))
    (own,), (plain,) = Hybrid().candidates(case), Adaptive().candidates(case)
    start = Recursive().invert(case).x.clamp(0.02, 0.98)
    assert torch.allclose(own.images.sigmoid(), start, atol=1e-6)
    assert torch.equal(own.labels, plain.labels)
    weights = [stage.terms["tv"] for stage in own.stages]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] <= 1
    assert weights[-1] >= plain.stages[-1].terms["tv"] > 0.03  # the floor that noise sets


def test_its_memory_is_known_without_its_start(make_trial, monkeypatch):
    case, _, _ = prepare(make_trial(), 0, DATA)
    monkeypatch.setattr(Recursive, "invert", lambda *_: pytest.fail("the start was looked for"))
    assert Hybrid().bytes_per_slot(case) == Adaptive().bytes_per_slot(case) > 0


def test_where_it_begins_is_part_of_its_time(make_trial, monkeypatch):
    def slowly(self, case):
        time.sleep(0.5)
        return Found(torch.full(case.spec.batch_shape, 0.5), torch.tensor([0]))

    monkeypatch.setattr(Recursive, "invert", slowly)
    assert row_of(make_trial(attack="hybrid(steps=1)")).seconds >= 0.5


def test_no_layer_is_solved_to_more_than_the_one_behind_it_left_unexplained(make_trial, monkeypatch):
    solved = []
    solve = Equations.solve

    def watched(self, steps, start, tolerance):
        solution = solve(self, steps, start, tolerance)
        solved.append((tolerance, solution.residual, solution.steps))
        return solution

    monkeypatch.setattr(Equations, "solve", watched)
    row_of(make_trial(attack="recursive(steps=300)", dataset="mnist-sample", defense="prune(ratio=0.9)"))
    tolerances, residuals, _ = zip(*solved, strict=True)
    assert max(residuals[:-1]) > 0.1
    assert tolerances[1:] == tuple(max(tolerances[0], 0.01 * max(residuals[:n])) for n in (1, 2, 3))
