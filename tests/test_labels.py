"""What the gradient of the last layer says about the labels."""

from dataclasses import replace
from itertools import combinations_with_replacement, product
from pathlib import Path

import pytest
import torch
from torch import nn

from leakbench.bench.attacks import Case, NotApplicableError, Spec, batch_labels
from leakbench.bench.attacks.labels import readings
from leakbench.bench.attacks.layers import LayerNames, output_layer
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.trial import prepare, victim_of

DATA = Path("data")
SPEC = Spec((3, 8, 8), 5)


def read(make_trial, **names):
    """(every reading, the true labels) of a trial's gradient."""
    trial = make_trial(**names)
    case, victim, _ = prepare(trial, 0, DATA)
    return readings(case, output_layer(case.model, case.spec)), victim.labels


@pytest.mark.parametrize("defense", ["none", "int8", "prune(ratio=0.9)", "gaussian(variance=0.001)"])
@pytest.mark.parametrize("model", ["lenet", "lenet(activation=relu, weights=default)", "mlp(hidden=[32])"])
def test_the_first_reading_is_right_where_features_are_positive(make_trial, model, defense):
    for index in range(4):
        names = {"model": model, "defense": defense, "index": index, "dataset": "cifar100-sample"}
        found, true = read(make_trial, **names)
        assert torch.equal(found[0], true)
        assert len(found) == 1 or defense == "gaussian(variance=0.001)"


def test_features_of_both_signs_mislead_the_sums_of_rows_and_nothing_else():
    """So that readings differ, and the true label is among them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.Tanh(), nn.Linear(20, 5))
    nn.init.constant_(model[1].bias, -2)
    shared = shared_gradient(model, torch.rand(1, 3, 8, 8), torch.tensor([3]))
    found = readings(Case(0, model, shared, SPEC), output_layer(model, SPEC))
    assert [int(each) for each in found][1:] == [3]
    assert int(found[0]) != 3


BATCH, STEPS = "fedsgd(batch_size=4)", "fedavg(batch_size=4, local_steps=3, lr=0.001)"
SUM = "secure_sum(clients=4, digits=3)"


LEFT = ["none", "prune(ratio=0.9)", "gaussian(variance=0.01)", "terngrad"]


@pytest.mark.parametrize(
    ("protocol", "defense"),
    [*product([BATCH, STEPS, SUM], LEFT), (BATCH, "clip(norm=1)"), (STEPS, "clip(norm=1)")],
)
def test_labels_of_a_batch_are_counted(make_trial, protocol, defense):
    for index in (0, 4, 8):
        found, true = read(make_trial, attack="adaptive", protocol=protocol, index=index, defense=defense)
        assert sorted(true.tolist()) in [each.tolist() for each in found]


@pytest.mark.parametrize("defense", ["sign", "sign(scale=none)"])
def test_labels_of_a_batch_are_counted_by_signs_alone(make_trial, defense):
    for index in (0, 4, 8):
        (found,), true = read(make_trial, attack="adaptive", protocol=BATCH, index=index, defense=defense)
        assert found.tolist() == sorted(true.tolist())


@pytest.mark.parametrize("free", [True, False])
def test_exchanges_find_the_best_of_all_labels(make_trial, free):
    protocol, defense = "fedsgd(batch_size=3)", "dp_gaussian(noise_multiplier=0.5)"
    case, _, _ = prepare(make_trial(protocol=protocol, defense=defense, attack="adaptive"), 0, DATA)
    misfit = batch_labels._misfit(batch_labels._entries(case), free)
    found = batch_labels._best(misfit, 10, 3)
    assert found == min(combinations_with_replacement(range(10), 3), key=misfit)


def test_labels_are_read_off_the_last_layers_where_there_are_many_weights(make_trial, monkeypatch):
    monkeypatch.setattr(batch_labels, "MOST", 76950)
    trial = make_trial(protocol=BATCH, defense="prune(ratio=0.5)", attack="adaptive")
    case, victim, _ = prepare(trial, 0, DATA)
    assert batch_labels._nearest(case) == list(case.shared)[:-3:-1]
    assert batch_labels.batch_readings(case)[0].tolist() == sorted(victim.labels.tolist())


def test_a_gradient_of_zeros_has_labels_too(make_trial):
    """Any: nothing tells them."""
    case, _, _ = prepare(make_trial(protocol="fedsgd(batch_size=2)"), 0, DATA)
    zeros = {name: torch.zeros_like(each) for name, each in case.shared.items()}
    (found,) = batch_labels.batch_readings(replace(case, shared=zeros))
    assert len(found) == 2


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_without_bias_is_enough(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.Sigmoid(), nn.Linear(20, 5, bias=bias))
    images, labels = torch.rand(3, 3, 8, 8), torch.tensor([4, 0, 4])
    layer = output_layer(model, SPEC)
    assert layer == LayerNames("3.weight", "3.bias" if bias else None)
    for count in (1, 3):
        shared = shared_gradient(model, images[:count], labels[:count])
        found = readings(Case(0, model, shared, Spec((3, 8, 8), 5, count)), layer)
        assert found[0].tolist() == sorted(labels[:count].tolist())


class Named(nn.Module):
    """Its last layer is registered first, and another linear one after it."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 5)
        self.body = nn.Linear(192, 7)

    def forward(self, x):
        return self.last(torch.sigmoid(self.body(x.flatten(1))))


def test_the_layer_is_the_one_that_the_scores_come_from():
    assert output_layer(Named(), SPEC) == LayerNames("last.weight", "last.bias")


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 5, 8), nn.Flatten()),
        nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh()),
    ],
)
def test_a_model_that_ends_otherwise_is_refused(model):
    with pytest.raises(NotApplicableError, match="expected a model whose class scores come from an nn.Lin"):
        output_layer(model, SPEC)


def test_the_client_is_not_asked(make_trial):
    """The labels are read, not looked up."""
    trial = make_trial()
    case, victim, _ = prepare(trial, 0, DATA)
    layer = output_layer(case.model, case.spec)
    wrong = victim_of(trial, DATA).labels + 1
    shared = shared_gradient(case.model, victim.batch, wrong)
    (found,) = readings(Case(0, case.model, shared, case.spec), layer)
    assert torch.equal(found, wrong)
