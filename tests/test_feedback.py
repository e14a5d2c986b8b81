"""Error feedback: what a client left out is added to its next update, in rounds and in trainings."""

import pytest
import torch
from test_training import DATA, training

from leakbench.bench.client import client_update
from leakbench.bench.datasets import open_dataset
from leakbench.bench.lock_step import train_together
from leakbench.bench.trial import victim_of
from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES, Memory
from leakbench.defenses.account import Mean
from leakbench.federation.defended import memoryless_defense

pytestmark = pytest.mark.numeric


def test_what_is_left_out_is_sent_once_it_is_the_largest():
    """By hand; in the last round two entries are 4, and the first is sent."""
    top, memory = DEFENSES.parse("top_k(ratio=0.34)"), Memory()
    gradient = {"g": torch.tensor([3.0, 2.0, 1.0])}
    rounds = [top.share(gradient, torch.Generator(), memory).gradients["g"].tolist() for _ in range(4)]
    assert rounds == [[3, 0, 0], [0, 4, 0], [6, 0, 0], [0, 4, 0]]
    alone = [top.share(gradient, torch.Generator()).gradients["g"].tolist() for _ in range(2)]
    assert alone == [[3, 0, 0], [3, 0, 0]]


def test_signs_with_feedback_are_those_of_the_paper():
    """Karimireddy et al. 2019, algorithm 1, in numbers."""
    sign, memory, error = DEFENSES.parse("sign(error_feedback=true)"), Memory(), torch.zeros(3)
    for _ in range(5):
        gradient = torch.tensor([1.0, -5.0, 0.25])
        p = gradient + error
        delta = p.abs().sum() / 3 * p.sign()
        error = p - delta
        shared = sign.share({"g": gradient}, torch.Generator(), memory).gradients["g"]
        torch.testing.assert_close(shared, delta)


@pytest.mark.parametrize("defense", ["top_k(ratio=0.1, error_feedback=false)", "prune(ratio=0.5)"])
def test_without_feedback_a_memory_stays_empty(defense):
    parsed, memory, gradient = DEFENSES.parse(defense), Memory(), {"g": torch.randn(50)}
    first, second = (parsed.share(gradient, torch.Generator(), memory).gradients["g"] for _ in range(2))
    assert torch.equal(first, second)
    assert memory.corrected(gradient) is gradient


@pytest.mark.parametrize("seen", [1, 3])
def test_each_client_keeps_its_own_memory_over_the_rounds(make_trial, seen):
    protocol = "fedsgd(rounds=3)" if seen == 1 else "secure_sum(clients=3, digits=7, rounds=3)"
    trial = make_trial(defense="top_k(ratio=0.2)", protocol=protocol)
    victim = victim_of(trial, DATA)
    exposed = victim.share(trial.defense, trial.protocol)
    totals = []
    for client in range(seen):
        batch = victim.batch[client : client + 1], victim.labels[client : client + 1]
        gradient, memory = client_update(victim.network, trial.protocol, *batch), Memory()
        totals += [trial.defense.share(gradient, torch.Generator(), memory).gradients for _ in range(3)]
    for name, own in exposed.shared.items():
        wanted = sum(each[name] for each in totals) / len(totals)
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-6)


def test_one_round_is_that_of_the_same_defense_without_feedback(make_trial):
    shared = [
        victim_of(make_trial(), DATA).share(DEFENSES.parse(f"top_k(error_feedback={each})")).shared
        for each in ("true", "false")
    ]
    assert all(torch.equal(own, shared[1][name]) for name, own in shared[0].items())


def test_a_mean_with_feedback_that_is_not_sparse_says_nothing():
    defense, shared = DEFENSES.parse("sign(error_feedback=true)"), {"g": torch.ones(4)}
    assert defense.checked_account(shared) is not None
    assert defense.checked_account(shared, Mean(rounds=2)) is None
    assert DEFENSES.parse("sign").checked_account(shared, Mean(rounds=2)) is not None


def by_hand(wanted):
    """SGD with a memory for each client and no other code of the harness than its data."""
    images, labels = wanted.train.read(wanted.model, DATA)
    source, recipe = open_dataset(wanted.train.dataset, DATA), wanted.recipe
    network = wanted.model.build(source.shape, source.classes, wanted.seed)
    parameters = list(network.parameters())
    missing = [[torch.zeros_like(each) for each in parameters] for _ in range(recipe.clients)]
    order = torch.randperm(len(images), generator=generator_for("order of examples", wanted.seed))
    for step in order.split(recipe.clients * recipe.batch_size):
        move = [torch.zeros_like(each) for each in parameters]
        for own, client in zip(missing, step.split(recipe.batch_size), strict=True):
            loss = torch.nn.functional.cross_entropy(network(images[client]), labels[client])
            for place, each in enumerate(torch.autograd.grad(loss, parameters)):
                own[place] += each
            flat = torch.cat([each.flatten() for each in own]).abs()
            least = flat.sort(descending=True).values[int(wanted.defense.ratio * len(flat)) - 1]
            for place, each in enumerate(own):
                sent = torch.where(each.abs() >= least, each, 0)
                own[place] = each - sent
                move[place] += sent / recipe.clients
        for parameter, each in zip(parameters, move, strict=True):
            parameter.data.sub_(each, alpha=recipe.lr)
    return network


def test_trainings_keep_a_memory_for_every_model_and_client():
    recipe = {"model": "mlp(hidden=[20])", "train": range(60), "clients": 3, "batch_size": 4, "momentum": 0.0}
    texts = "top_k(ratio=0.05)", "none", "top_k(ratio=0.05, error_feedback=false)"
    trained = train_together([training(each, **recipe) for each in texts], DATA, keep=[1])
    for name, parameter in by_hand(training(texts[0], **recipe)).named_parameters():
        close = torch.isclose(trained[0].weights[1][name], parameter.detach(), rtol=1e-3, atol=1e-5)
        assert int((~close).sum()) < 10  # of 15680: rounding decides which of two equal ones is sent first
    assert not torch.equal(trained[0].weights[1]["1.weight"], trained[2].weights[1]["1.weight"])
    alone = train_together([training(texts[0], **recipe)], DATA, keep=[1])[0]
    assert torch.equal(alone.weights[1]["1.weight"], trained[0].weights[1]["1.weight"])


def test_a_defense_without_memory_refuses_feedback_in_a_line():
    with pytest.raises(UserError, match="without error feedback: .*; set error_feedback=false"):
        memoryless_defense("top_k")
    assert memoryless_defense("top_k(error_feedback=false)").ratio == 0.01


def test_a_defense_of_a_users_may_have_feedback_as_a_setting(write):
    """Although a setting may not hide any other member of a defense."""
    text = (
        "from dataclasses import dataclass\nfrom leakbench import Defense\n@dataclass(frozen=True)\n"
        "class Mine(Defense):\n    error_feedback: bool = True\n"
        "    def apply(self, gradients, generator):\n"
        "        return {n: g / 2 for n, g in gradients.items()}\n"
    )
    file, gradient = write("mine.py", text), {"g": torch.tensor([8.0])}
    found = {}
    for setting in ("true", "false"):
        mine, memory = DEFENSES.parse(f"{file}:Mine(error_feedback={setting})"), Memory()
        each = [mine.share(gradient, torch.Generator(), memory).gradients["g"].item() for _ in range(3)]
        found[setting] = each
    assert found == {"true": [4, 6, 7], "false": [4, 4, 4]}
