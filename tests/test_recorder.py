"""A training that is recorded: each step a round, whose update is the gradient that was taken."""

import importlib
import itertools
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

import leakbench
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.models import MODELS
from leakbench.core.errors import UserError
from leakbench.federation.rounds import read_rounds
from leakbench.federation.setting import value_for

EPSILON = 2**-23  # of float32


class Normed(nn.Sequential):
    """With buffers."""

    def __init__(self):
        torch.manual_seed(0)
        layers = nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 10)
        super().__init__(*layers)


@pytest.fixture
def digits(tmp_path):
    """Eight digits (8, 1, 28, 28) with their labels."""
    return open_dataset(DATASETS.parse("mnist-sample"), tmp_path).batch(range(8))


def train(model, optimizer, digits, steps=3, then=None):
    """Steps on two digits each; the gradients that they took. Raises `then`, if given, in the end."""
    taken = []
    for step in range(steps):
        optimizer.zero_grad()
        images, labels = (each[2 * step : 2 * step + 2] for each in digits)
        functional.cross_entropy(model(images), labels).backward()
        taken.append(
            {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        )
        optimizer.step()
    if then is not None:
        raise then
    return taken


def assert_taken(each, taken):
    """The gradient of a round is the one that was taken, as far as differences of float32 weights tell."""
    gradient = each.gradient("0")
    assert gradient.keys() == taken.keys()
    for name, expected in taken.items():
        error, weight = (gradient[name] - expected).abs(), each.weights[name].abs()
        assert (error <= 2 * EPSILON * (weight / value_for(name, each.setting.lr) + expected.abs())).all(), (
            name
        )


def test_three_lines_record_every_step_of_a_training(tmp_path, digits):
    model = MODELS.parse("lenet").build((1, 28, 28), 10, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with leakbench.record(model, optimizer, tmp_path / "rounds", batch_size=2):
        taken = train(model, optimizer, digits)
    rounds = read_rounds(tmp_path / "rounds")
    assert [each.number for each in rounds] == [1, 2, 3]
    for each, gradient in zip(rounds, taken, strict=True):
        assert_taken(each, gradient)
        assert list(each.setting.caveats()) == []
        assert each.clients["0"].examples == each.setting.local_batch == 2
        assert each.buffers == {}
    for before, later in itertools.pairwise(rounds):
        changed = {name: each + before.clients["0"].change[name] for name, each in before.weights.items()}
        for name, each in later.weights.items():
            torch.testing.assert_close(changed[name], each)
    train(model, optimizer, digits)  # no longer recorded
    assert len(list((tmp_path / "rounds").iterdir())) == 3


def test_each_parameter_has_the_rate_and_decay_of_its_group(tmp_path, digits):
    model = Normed()
    weights, others = (
        [model[1].weight, model[4].weight],
        [model[1].bias, *model[2].parameters(), model[4].bias],
    )
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "lr": 0.05}]
    optimizer = torch.optim.SGD(groups, lr=0.5)
    with leakbench.record(model, optimizer, tmp_path):
        taken = train(model, optimizer, digits)
    rounds = read_rounds(tmp_path)
    setting = rounds[0].setting
    assert (setting.lr["4.weight"], setting.lr["4.bias"]) == (0.5, 0.05)
    assert (setting.weight_decay["4.weight"], setting.weight_decay["4.bias"]) == (0.1, 0.0)
    assert setting.momentum == 0
    for each, gradient in zip(rounds, taken, strict=True):
        assert_taken(each, gradient)


def test_buffers_are_those_before_the_forward_pass_and_after(tmp_path, digits):
    model = Normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with leakbench.record(model, optimizer, tmp_path):
        train(model, optimizer, digits, steps=2)
    first, second = read_rounds(tmp_path)
    assert first.buffers.keys() == {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert first.buffers["2.running_mean"].tolist() == [0.0] * 8
    mean = Normed()[1](digits[0][:2].flatten(1)).mean(0)
    torch.testing.assert_close(first.clients["0"].buffers["2.running_mean"], 0.1 * mean)  # they leak
    assert torch.equal(second.buffers["2.running_mean"], first.clients["0"].buffers["2.running_mean"])
    assert int(second.clients["0"].buffers["2.num_batches_tracked"]) == 2


def test_what_is_not_trained_counts_as_a_buffer(tmp_path, digits):
    """A frozen parameter, and one that the optimizer does not know."""
    model = Normed()
    model[1].bias.requires_grad_(False)
    optimizer = torch.optim.SGD(
        [model[1].weight, model[1].bias, *model[2].parameters(), model[4].weight], lr=0.1
    )
    with leakbench.record(model, optimizer, tmp_path):
        train(model, optimizer, digits, steps=1)
    (only,) = read_rounds(tmp_path)
    assert only.weights.keys() == {"1.weight", "2.weight", "2.bias", "4.weight"}
    assert {"1.bias", "4.bias"} <= only.buffers.keys()


def test_a_parameter_that_a_step_leaves_out_has_no_gradient(tmp_path):
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    with leakbench.record(model, optimizer, tmp_path):
        model["used"](torch.ones(2)).sum().backward()
        optimizer.step()
    gradient = read_rounds(tmp_path)[0].gradient("0")
    assert gradient["idle.weight"].abs().max() == 0
    torch.testing.assert_close(gradient["used.weight"], torch.ones(2, 2))


def test_some_steps_are_enough(tmp_path, digits):
    model = Normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with leakbench.record(model, optimizer, tmp_path, every=2):
        taken = train(model, optimizer, digits, steps=4)
    rounds = read_rounds(tmp_path)
    assert [each.number for each in rounds] == [1, 3]
    assert_taken(rounds[1], taken[2])
    assert rounds[1].clients["0"].examples is None


def test_the_rate_is_that_of_the_step(tmp_path, digits):
    """And a step at rate 0, as a warm-up begins, moves nothing and is no round."""
    model = Normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 2)
    with leakbench.record(model, optimizer, tmp_path):
        for _ in range(3):
            train(model, optimizer, digits, steps=1)
            schedule.step()
    assert [(each.number, each.setting.lr) for each in read_rounds(tmp_path)] == [(2, 0.2), (3, 0.4)]


def test_a_step_of_another_optimizer_is_no_gradient(tmp_path, digits):
    model = Normed()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with leakbench.record(model, optimizer, tmp_path / "adam"):
        train(model, optimizer, digits, steps=1)
    (only,) = read_rounds(tmp_path / "adam")
    assert only.setting.optimizer == "adamw"
    with pytest.raises(UserError, match="expected steps of sgd, .*, got optimizer 'adamw'"):
        only.gradient("0")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with leakbench.record(model, optimizer, tmp_path / "momentum"):
        train(model, optimizer, digits, steps=1)
    (caveat,) = read_rounds(tmp_path / "momentum")[0].setting.caveats()
    assert "momentum" in caveat


def test_a_training_that_fails_is_recorded_as_far_as_it_went(tmp_path, digits):
    model = Normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ZeroDivisionError), leakbench.record(model, optimizer, tmp_path):
        train(model, optimizer, digits, steps=1, then=ZeroDivisionError())
    train(model, optimizer, digits, steps=1)
    assert len(read_rounds(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"every": 0}, "every: expected a whole number > 0, got 0"),
        ({"batch_size": 1.5}, "batch_size: expected a whole number > 0, got 1.5"),
        ({"maximize": True}, "optimizer: expected one that minimises, got one with maximize=True"),
        ({"model": nn.Linear(1, 1)}, "optimizer: expected one that trains parameters of the model, got one"),
    ],
)
def test_what_cannot_be_recorded_is_a_line(tmp_path, arguments, text):
    given = {"model": Normed(), **arguments}
    optimizer = torch.optim.SGD(Normed().parameters(), lr=0.1, maximize=given.pop("maximize", False))
    if "model" not in arguments:
        optimizer.add_param_group({"params": given["model"].parameters()})
    recording = leakbench.record(given.pop("model"), optimizer, tmp_path, **given)
    with pytest.raises(UserError, match=f"^{text}"), recording:
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_recordings_do_not_mix(tmp_path, digits):
    model = Normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with leakbench.record(model, optimizer, tmp_path):
        train(model, optimizer, digits, steps=1)
    with pytest.raises(UserError, match="found recorded rounds; choose another"):
        leakbench.record(model, optimizer, tmp_path).__enter__()


def test_flower_is_needed_for_its_own_part_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(
        ImportError, match=r"^leakbench\.flower needs the package flwr; `pip install -e '\.\[flower\]'`"
    ):
        importlib.import_module("leakbench.flower")
