"""Defenses that see the client's model and batch: what they get, and what they may not do."""

import pytest
import torch
from test_training import DATA, training
from torch.nn import functional

import leakbench
from leakbench.bench.lock_step import train_together
from leakbench.bench.trial import victim_of
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES, ContractError, Point
from leakbench.federation.defended import gradient_defense

pytestmark = pytest.mark.numeric

HEAD = (
    "from dataclasses import dataclass\nimport torch\nfrom torch.nn import functional\n"
    "from leakbench import Defense\n@dataclass(frozen=True)\nclass Mine(Defense):\n"
)
SIGNATURE = "    def apply_knowing(self, gradients, network, images, labels, generator):\n"
AGAIN = SIGNATURE + (  # the gradient of what it is given, whatever the update is
    "        assert not network.training and not images.requires_grad\n"
    "        names = [name for name, _ in network.named_parameters()]\n"
    "        loss = functional.cross_entropy(network(images), labels)\n"
    "        found = torch.autograd.grad(loss, list(network.parameters()))\n"
    "        return {n: g + 0 * gradients[n] for n, g in zip(names, found)}\n"
)
FLIP = "    def change_batch(self, images, labels, generator):\n        return images.flip(-1), labels\n"
HALVE = (
    "    def apply(self, gradients, generator):\n        return {n: g / 2 for n, g in gradients.items()}\n"
)
EACH = (
    "    def apply_each(self, gradients, generator):\n"
    "        return {n: g[0] for n, g in gradients.items()}\n"
)


@pytest.fixture
def define(write):
    return lambda *methods: f"{write('mine.py', HEAD + ''.join(methods))}:Mine"


def test_it_sees_the_changed_batch_and_apply_comes_after_it(make_trial, define):
    trial = make_trial(defense=define(AGAIN, FLIP, HALVE), protocol="fedsgd(batch_size=2)")
    assert trial.defense.points() == {Point.KNOWING, Point.BATCH, Point.GRADIENT}
    victim = victim_of(trial, DATA)
    loss = functional.cross_entropy(victim.network(victim.batch.flip(-1)), victim.labels)
    wanted = torch.autograd.grad(loss, list(victim.network.parameters()))
    exposed = victim.share(trial.defense, trial.protocol)
    for own, each in zip(exposed.shared.values(), wanted, strict=True):
        torch.testing.assert_close(own, each / 2)


def test_it_comes_after_each_example(make_trial, define):
    """Which hands on the first example's gradient; this one replaces it by that of both."""
    trial = make_trial(defense=define(AGAIN, EACH), protocol="fedsgd(batch_size=2)")
    victim = victim_of(trial, DATA)
    shared = victim.share(trial.defense, trial.protocol).shared
    for name, own in victim.gradient.items():
        torch.testing.assert_close(shared[name], own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("examples", [(), (EACH,)])
def test_in_a_training_it_sees_the_weights_of_the_present_step(define, examples):
    recipe = {"model": "mlp(hidden=[20])", "train": range(60)}
    wanted = training(define(AGAIN, *examples), **recipe)
    assert wanted.room == 1
    (known,) = train_together([wanted], DATA, keep=[1])
    (plain,) = train_together([training(**recipe)], DATA, keep=[1])
    for name, weight in plain.weights[1].items():
        torch.testing.assert_close(known.weights[1][name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("images.mul_(2)\n        return dict(gradients)", "changed its batch in place; work on copies"),
        ("return 3", "expected gradients named ['0.weight', "),
        ("return {n: g.mul_(2) for n, g in gradients.items()}", "changed gradient '0.weight' in place"),
        (
            "return {n: g[0] for n, g in gradients.items()}",
            "gradient '0.weight': expected shape (12, 3, 5, 5)",
        ),
    ],
)
def test_a_broken_promise_is_a_contract_error(make_trial, define, body, problem):
    trial = make_trial(defense=define(f"{SIGNATURE}        {body}\n"))
    with pytest.raises(ContractError) as caught:
        victim_of(trial, DATA).share(trial.defense)
    assert problem in str(caught.value)


def test_the_network_that_it_gets_is_a_copy(make_trial, define):
    body = "        network[0].weight.data.zero_()\n        return {n: 1 * g for n, g in gradients.items()}\n"
    trial = make_trial(defense=define(SIGNATURE, body))
    assert victim_of(trial, DATA).share(trial.defense).network[0].weight.any()
    trained = [train_together([training(each)], DATA, keep=[1])[0] for each in (str(trial.defense), "none")]
    for name, weight in trained[1].weights[1].items():
        torch.testing.assert_close(trained[0].weights[1][name], weight, rtol=1e-4, atol=1e-6)


def test_without_a_client_it_is_refused_in_a_line(define):
    defense = DEFENSES.parse(define(AGAIN))
    with pytest.raises(
        ContractError, match="apply_knowing: expected the client's model and batch, which are"
    ):
        defense({"g": torch.ones(1)}, torch.Generator())
    with pytest.raises(UserError, match="changes gradients alone: .*, got one with apply_knowing"):
        gradient_defense(defense)


def test_a_check_tries_it_on_models_and_batches(define, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    define(
        AGAIN,
        "    def account(self, shared):\n        from leakbench import Account\n        return Account()\n",
    )
    assert leakbench.main(["check", "mine.py"]) == 0
    told = capsys.readouterr().out
    assert "ok     the model mlp and its batch of 8" in told
    assert "ok     its account" in told
    define(AGAIN.replace("images.requires_grad", "images.sub_(1).any()"))
    assert leakbench.main(["check", "mine.py:Mine"]) == 1
    assert "wrong  the model lenet and its batch of 1" in capsys.readouterr().out
