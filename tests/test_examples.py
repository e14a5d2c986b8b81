"""The worked examples: each against numbers that are known."""

from pathlib import Path

import pytest
import torch

from leakbench.bench.attacks import Resources
from leakbench.bench.execution import Conditions, run_trials
from leakbench.defenses import DEFENSES

BATCHED = Conditions(Resources(slots=8))
EXAMPLES = Path(__file__).parent.parent / "examples"


def example(text):
    return DEFENSES.parse(f"{EXAMPLES}/{text}")


def test_sign_keeps_a_bit_of_each_entry():
    shared = example("sign.py:Sign").share({"g": torch.tensor([3.0, -1.0, 0.0, 4.0])}, torch.Generator())
    assert shared.gradients["g"].tolist() == [2.0, -2.0, 0.0, 2.0]
    assert shared.sent_bytes == 1 + 4


@pytest.mark.parametrize(
    ("defense", "least"), [("none", 0.999), ("float16", 0.999), ("int8", 0.99), ("gaussian(std=0.001)", 0.9)]
)
def test_the_first_layer_gives_the_image_away(make_trial, defense, least):
    attack = f"{EXAMPLES}/first_layer.py:FirstLayer"
    trials = [
        make_trial(dataset="mnist-sample", model="mlp", index=index, attack=attack, defense=defense)
        for index in range(3)
    ]
    rows = [result.row for result in run_trials(trials, Conditions())]
    assert {row.status for row in rows} == {"converged"}
    assert min(row.ssim for row in rows) > least
    assert all(row.label_correct for row in rows)


def test_the_first_layer_says_where_it_is_none(make_trial):
    (result,) = run_trials([make_trial(attack=f"{EXAMPLES}/first_layer.py:FirstLayer")], Conditions())
    text = "NotApplicableError: expected one image and a fully connected first layer with a bias"
    assert (result.row.status, result.row.reason) == ("error", text)


def test_an_attack_by_optimisation_takes_two_methods(make_trial):
    """It works, and no better than with one scale for all tensors."""
    attacks = (f"{EXAMPLES}/per_tensor.py:PerTensor(steps=80)", "adaptive(steps=80)")
    digits = [[make_trial(dataset="mnist-sample", attack=each, index=i) for i in (0, 1)] for each in attacks]
    own, ours = ([each.row.ssim for each in run_trials(trials, BATCHED)] for trials in digits)
    assert min(own) > 0.8
    assert sum(own) < sum(ours)


def test_the_bottleneck_is_before_the_last_linear_layer():
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 2))
    changed = example("bottleneck.py:Bottleneck(size=5)").checked_model(network, seed=0)
    last = changed[2]
    assert (last[0].encode.out_features, last[0].decode.in_features, last[1].out_features) == (10, 5, 2)
    x = torch.randn(7, 4)
    assert not torch.equal(changed(x), changed(x))
    changed.eval()
    assert torch.equal(changed(x), changed(x))
