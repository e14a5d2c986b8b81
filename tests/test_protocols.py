"""What clients share under each protocol: against loops with PyTorch's optimisers, and numbers by hand."""

import math
import re
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import binom
from torch.nn import functional

from leakbench.bench.attacks import ATTACKS, attacks_of
from leakbench.bench.attacks.adaptive import UNIT
from leakbench.bench.attacks.base import Case, Spec
from leakbench.bench.client import client_update, expected_update
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.metrics import ssim
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS, FedAvg, FedSGD, Protocol, SecureSum
from leakbench.bench.row import label_columns
from leakbench.bench.sharing import FixedPoint, Ring, reconstruct, share
from leakbench.bench.trial import prepare
from leakbench.core.configured import SettingError
from leakbench.core.randomness import generator_for
from leakbench.defenses import Account, ContractError
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.sweep_file import read_sweep


@pytest.fixture
def network():
    return MODELS.parse("mlp(hidden=[16], activation=tanh)").build((1, 8, 8), 10, 0)


@pytest.fixture
def generator():
    return generator_for("test")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 1, 8, 8, generator=generator), torch.tensor([3, 1, 4, 1])


def by_hand(network, protocol, images, labels):
    """The client as anybody would write it, with an optimiser of PyTorch."""
    own = MODELS.parse("mlp(hidden=[16], activation=tanh)").build((1, 8, 8), 10, 0)
    own.load_state_dict(network.state_dict())
    if protocol.optimizer == "adam":
        optimizer = torch.optim.Adam(own.parameters(), lr=protocol.lr)
    else:
        optimizer = torch.optim.SGD(own.parameters(), lr=protocol.lr, momentum=protocol.momentum)
    size = protocol.local_batch or len(images)
    for step in range(protocol.local_steps):
        first = step * size % len(images)
        optimizer.zero_grad()
        chosen = slice(first, first + size)
        functional.cross_entropy(own(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    before, after = network.state_dict(), own.state_dict()
    return {name: (before[name] - after[name]) / (protocol.lr * protocol.local_steps) for name in before}


def error(one, other):
    """Of all entries together, relative to the other."""
    flat, others = (torch.cat([each.double().flatten() for each in own.values()]) for own in (one, other))
    return float((flat - others).norm() / others.norm())


@pytest.mark.parametrize(
    "text",
    [
        "fedavg(batch_size=4, lr=0.1)",
        "fedavg(batch_size=4, local_steps=5, lr=0.1)",
        "fedavg(batch_size=4, local_steps=5, local_batch=2, lr=0.1)",
        "fedavg(batch_size=4, local_steps=4, local_batch=1, lr=0.1, momentum=0.9)",
        "fedavg(batch_size=4, local_steps=3, lr=0.01, optimizer=adam)",
    ],
)
def test_a_client_does_what_an_optimiser_of_pytorch_does(network, batch, text):
    protocol = PROTOCOLS.parse(text)
    assert error(client_update(network, protocol, *batch), by_hand(network, protocol, *batch)) < 1e-4


def test_one_step_is_the_gradient_but_for_the_rounding_of_the_weights(network, batch):
    gradient = shared_gradient(network, *batch)
    assert error(client_update(network, FedSGD(4), *batch), gradient) == 0
    coarse, fine = (error(client_update(network, FedAvg(4, lr=lr), *batch), gradient) for lr in (0.1, 1e-5))
    assert coarse < 1e-5
    assert 1e-4 < fine < 0.1  # the weights have no digits left for so small a step


def test_the_first_step_of_adam_is_a_sign(network, batch):
    protocol = FedAvg(4, lr=0.01, optimizer="adam")
    gradient = shared_gradient(network, *batch)
    for name, each in client_update(network, protocol, *batch).items():
        clear = gradient[name].abs() > 1e-4
        torch.testing.assert_close(each[clear], gradient[name][clear].sign(), atol=1e-3, rtol=0)
    assert protocol.signed
    assert not FedAvg(4, local_steps=2, optimizer="adam").signed


def test_what_an_attacker_expects_is_what_is_shared(network, batch):
    images, labels = batch
    logits = torch.full((4, 10), -torch.inf)
    logits[torch.arange(4), labels] = 0
    texts = [
        "fedavg(batch_size=4, local_steps=3)",
        "fedavg(batch_size=4, local_steps=2, local_batch=2)",
        "secure_sum(clients=2, batch_size=2, digits=9)",
        'secure_sum(clients=2, batch_size=2, digits=9, of="fedavg(optimizer=adam)")',  # the mean of signs
    ]
    for text in texts:
        protocol = PROTOCOLS.parse(text)
        halves = zip(images.split(protocol.batch_size), labels.split(protocol.batch_size), strict=True)
        updates = [client_update(network, protocol, *half) for half in halves]
        view = protocol.view(updates, 0, torch.Generator())
        assert error(expected_update(network, protocol, images, labels), view.update) < 1e-5
        assert error(expected_update(network, protocol, images, logits), view.update) < 1e-5


def updates_of(clients):
    generator = torch.Generator().manual_seed(1)
    return [{"a": torch.randn(50, generator=generator), "b": torch.randn(3, 4)} for _ in range(clients)]


@pytest.mark.parametrize(("modulus", "digits"), [(64, 3), (32, 4), (24, 3)])
def test_the_sum_is_that_of_the_encodings_and_all_that_shares_give(modulus, digits):
    protocol, updates = SecureSum(clients=5, digits=digits, modulus=modulus), updates_of(5)
    view = protocol.view(updates, 0, torch.Generator())
    ring, encoding = Ring(modulus), FixedPoint(10, digits)
    generator = torch.Generator().manual_seed(2)
    for name, mean in view.update.items():
        words = [encoding.encode(each[name]) for each in updates]
        exact = torch.stack(words).sum(0)  # in whole numbers: nothing wraps around
        assert torch.equal(mean, (exact.double() / 10**digits / 5).float())
        shares = torch.stack([share(each, 5, ring, generator) for each in words])  # (client, party, *shape)
        assert torch.equal(reconstruct(ring.wrap(shares.sum(0)), ring), exact)
        plain = torch.stack([each[name] for each in updates]).mean(0)
        assert float((mean - plain).abs().max()) <= view.rounding + 1e-6
    assert view.rounding == 10**-digits
    assert view.sent_bytes == (50 + 12) * modulus // 8


def test_no_attack_gets_above_chance_from_one_share(generator):
    """Of two. `linear` has every digit from both; from one, labels as by guessing, and no likeness.

    The limits are exceeded by chance once in a thousand times.
    """
    digits = open_dataset(DATASETS.parse("mnist-sample"), None)
    model = MODELS.parse("mlp(activation=relu, weights=default)").build(digits.shape, digits.classes, 0)
    ring, encoding, found = Ring(64), FixedPoint(10, 6), {"both": [], "one": []}
    for index in range(len(digits)):
        images, labels = digits.batch([index])
        gradient = shared_gradient(model, images, labels)
        shares = {name: share(encoding.encode(each), 2, ring, generator) for name, each in gradient.items()}
        views = {
            "both": {name: encoding.decode(reconstruct(each, ring)).float() for name, each in shares.items()},
            "one": {name: encoding.decode(each[0]).float() for name, each in shares.items()},
        }
        for what, view in views.items():
            made = ATTACKS.parse("linear").invert(Case(0, model, view, Spec(digits.shape, digits.classes)))
            likeness = [ssim(digits[other][0], made.x[0]) for other in range(len(digits))]
            found[what].append((likeness[index], likeness, int(made.labels[0]) == int(labels[0])))
    assert min(own for own, _, _ in found["both"]) > 0.99
    assert all(label for *_, label in found["both"])
    first = sum(own >= max(likeness) for own, likeness, _ in found["one"])  # most alike to its own digit
    assert first <= binom.isf(0.001, len(digits), 1 / len(digits))
    assert sum(label for *_, label in found["one"]) <= binom.isf(0.001, len(digits), 1 / digits.classes)
    assert max(own for own, _, _ in found["one"]) < 0.2


def test_clients_of_a_sum_may_have_batches_of_their_own():
    protocol = PROTOCOLS.parse('secure_sum(batch_size=8, of="fedavg(local_steps=2, local_batch=4)")')
    assert protocol.inner == FedAvg(8, local_steps=2, local_batch=4)


def test_a_sum_of_signs_is_one_of_signs():
    protocol = PROTOCOLS.parse('secure_sum(clients=2, of="fedavg(optimizer=adam)")')
    assert (protocol.signed, protocol.separable) == (True, False)


def test_a_protocol_of_a_users_shares_what_its_update_says(network, batch):
    class Halved(Protocol):
        def update(self, gradient, weights, images, labels):
            return {name: each / 2 for name, each in gradient(weights, images, labels).items()}

    protocol = Halved(batch_size=4)
    assert not protocol.separable
    assert error(expected_update(network, protocol, *batch), client_update(network, protocol, *batch)) < 1e-6
    assert FedSGD(4).separable


def test_nothing_is_known_of_rounding_where_values_were_clipped(make_trial, tmp_path):
    *_, exposed = shared(make_trial, tmp_path, "secure_sum(clients=2, bits=22, clip=0.001)")
    assert exposed.account is None
    *_, exposed = shared(make_trial, tmp_path, "secure_sum(clients=2, bits=22, clip=1000)")
    assert exposed.account.rounding is not None


def test_secagg_clips_and_rounds_by_chance_without_a_bias():
    protocol = SecureSum(clients=2, bits=6, clip=1.0, modulus=32)
    value = {"a": torch.full((20000,), 0.3)}
    generator = torch.Generator().manual_seed(0)
    view = protocol.view([value, {"a": torch.full((20000,), 5.0)}], 0, generator)
    assert view.rounding == math.inf  # what was clipped can be any number
    assert protocol.view([value, value], 0, generator).rounding == 2 / 64
    assert float(view.update["a"].mean()) == pytest.approx((0.3 + 1.0) / 2, abs=1e-3)
    assert set(view.update["a"].mul(64).round().int().tolist()) == {41, 42}  # (0.28125 or 0.3125, and 1) / 2


def shared(make_trial, tmp_path, protocol, index=0, defense="none"):
    names = {"protocol": protocol, "index": index, "defense": defense, "model": "lenet"}
    return prepare(make_trial(**names), 0, tmp_path)


def test_colluders_and_dropouts_leave_the_sum_of_the_others(make_trial, tmp_path):
    whole, _, exposed = shared(make_trial, tmp_path, "secure_sum(clients=4, digits=6)")
    assert whole.spec.count == 4
    one, victim, alone = shared(
        make_trial, tmp_path, "secure_sum(clients=4, digits=6, colluders=2, dropouts=1)"
    )
    assert one.spec.count == len(victim.batch) == 1
    plain, _, _ = shared(make_trial, tmp_path, "fedsgd")
    for name, each in one.shared.items():
        assert float((each - plain.shared[name]).abs().max()) <= 1e-6
    mean = [shared(make_trial, tmp_path, "fedsgd", index)[0].shared for index in range(4)]
    for name, each in whole.shared.items():
        wanted = torch.stack([own[name] for own in mean]).mean(0)
        assert float((each - wanted).abs().max()) <= 2e-6
    assert exposed.account.rounding["0.weight"].max() == pytest.approx(1e-6)
    assert exposed.sent_bytes == alone.sent_bytes == sum(each.numel() for each in plain.shared.values()) * 8


def test_each_client_draws_its_own_noise(make_trial, tmp_path):
    def noise(protocol):
        plain = shared(make_trial, tmp_path, protocol)[0].shared
        noisy = shared(make_trial, tmp_path, protocol, defense="gaussian(std=1)")
        assert noisy[2].account.variance == pytest.approx(1 / PROTOCOLS.parse(protocol).seen)
        return torch.cat([(noisy[0].shared[name] - plain[name]).flatten() for name in plain])

    one, four = noise("fedsgd"), noise("secure_sum(clients=4, digits=6)")
    assert float(four.std()) == pytest.approx(0.5, rel=0.05)
    assert float(torch.corrcoef(torch.stack([one, four]))[0, 1]) == pytest.approx(0.5, abs=0.05)


def test_a_modulus_that_overflows_is_a_line():
    with pytest.raises(SettingError, match=r"modulus: too small for the clients \(overflow\): expected 2\^"):
        SecureSum(clients=100, digits=3, modulus=16)
    protocol = SecureSum(clients=2, digits=3, modulus=16)
    with pytest.raises(ContractError, match=r"secure_sum\(clients=2, modulus=16\): modulus: too small"):
        protocol.view([{"a": torch.tensor([20.0])}] * 2, 0, torch.Generator())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fedavg(local_steps=0)", "local_steps: expected a whole number in [1, 10000], got 0"),
        ("fedavg(batch_size=4, local_batch=3)", "local_batch: expected a divisor of batch_size, 4, or 0"),
        (
            "fedavg(batch_size=4, local_batch=2)",
            "local_steps: expected 2 or more, so that every image takes part, got 1",
        ),
        ("secure_sum(bits=-1)", "bits: expected a whole number in [0, 52], got -1"),
        ("secure_sum(bits=60)", "bits: expected a whole number in [0, 52], got 60"),
        (
            'secure_sum(of="fedsgd(batch_size=8)")',
            "of: expected no batch_size in it, which stands next to it: fedsgd(batch_size=8)",
        ),
        ("fedavg(lr=0)", "lr: expected a number > 0, got 0"),
        ("fedavg(momentum=1)", "momentum: expected a number in [0, 1), got 1"),
        ("fedavg(momentum=0.5, optimizer=adam)", "momentum: expected 0 with optimizer=adam"),
        ("secure_sum(clients=2, colluders=2)", "expected fewer than 2 clients that collude or drop out"),
        ("secure_sum(of=fedsgt)", "of: unknown protocol 'fedsgt'; did you mean 'fedsgd'?"),
        ("secure_sum(of=secure_sum)", "of: expected what a client makes of its images, got secure_sum"),
        ("secure_sum(digits=0)", "digits: expected a whole number >= 1"),
        ("secure_sum(modulus=65)", "expected a whole number in 8..64, got 65"),
    ],
)
def test_settings_that_cannot_be(text, problem):
    with pytest.raises(SettingError, match=re.escape(problem)):
        PROTOCOLS.parse(text)


def test_a_clients_protocol_counts_for_the_key(make_trial):
    keys = {
        make_trial(protocol=each).key
        for each in ("fedsgd", "fedavg", "fedavg(lr=0.1)", "secure_sum", 'secure_sum(of="fedavg(lr=0.1)")')
    }
    assert len(keys) == 5


def test_distances_by_hand():
    adaptive = ATTACKS.parse("adaptive")
    shared = {"a": torch.tensor([3.0, 4.0])}
    weights = {"weight a": torch.full((2,), UNIT**0.5 / 5)}

    def matching(spec, account=None):
        return adaptive.matching(SimpleNamespace(spec=spec, account=account))

    def distance(spec, dummy, account=None):
        return float(adaptive.distance({"a": dummy}, shared, {**weights, **matching(spec, account)}))

    plain, several = Spec((1, 2, 2), 10), Spec((1, 2, 2), 10, steps=5)
    assert distance(plain, torch.tensor([6.0, 8.0])) == pytest.approx(UNIT)
    assert distance(several, torch.tensor([6.0, 8.0])) == pytest.approx(0, abs=1e-3)
    assert distance(several, torch.tensor([4.0, -3.0])) == pytest.approx(UNIT)  # at a right angle
    assert distance(several, torch.tensor([-3.0, -4.0])) == pytest.approx(UNIT)  # no multiple below 0
    assert distance(several, torch.tensor([1.0, 0.0])) == pytest.approx(UNIT * (1 - 0.6**2))
    assert distance(plain, torch.tensor([6.0, 8.0]), Account(scaled=True)) == pytest.approx(0, abs=1e-3)
    assert distance(plain, torch.tensor([6.0, 8.0]), Account()) == pytest.approx(UNIT)
    signs = {"a": torch.tensor([1.0, -1.0])}
    spec = Spec((1, 2, 2), 10, signed=True)
    terms = {"weight a": torch.ones(2), **matching(spec)}
    for dummy, share_of_wrong in (([2.0, -6.0], 0), ([2.0, 6.0], 0.75), ([-2.0, 6.0], 1)):
        found = adaptive.distance({"a": torch.tensor(dummy)}, signs, terms)
        assert float(found) == pytest.approx(UNIT * share_of_wrong, abs=1e-3)


def test_unrolled_steps_give_the_update_to_the_bit_of_the_client(make_trial, tmp_path):
    """At the true image the objective of `unrolled` is that of rounding alone."""
    protocol = "fedavg(batch_size=2, local_steps=4, lr=0.1)"
    case, victim, _ = shared(make_trial, tmp_path, protocol)
    dummy = expected_update(case.model, PROTOCOLS.parse(protocol), victim.batch, victim.labels)
    assert error(dummy, case.shared) < 1e-6
    assert error(shared_gradient(case.model, victim.batch, victim.labels), case.shared) > 0.1


@pytest.mark.parametrize("attack", ["unrolled(steps=40)", "adaptive(steps=40)"])
def test_several_steps_do_not_protect_a_digit(make_trial, attack):
    trial = make_trial(
        dataset="mnist-sample", model="lenet", attack=attack,
        protocol="fedavg(local_steps=5, lr=0.01)",
    )  # fmt: skip
    (result,) = run_trials([trial], Conditions())
    assert result.row.label_recall == 1
    assert result.row.ssim > (0.9 if attack.startswith("unrolled") else 0.2)
    assert result.row.threat == ("defense, protocol" if attack.startswith("unrolled") else "defense")


def test_the_signs_of_adams_first_step_tell_the_digit(make_trial):
    names = {"dataset": "mnist-sample", "model": "lenet", "attack": "adaptive(steps=120)"}
    (result,) = run_trials([make_trial(**names, protocol="fedavg(optimizer=adam, lr=0.001)")], Conditions())
    assert result.row.ssim > 0.2
    assert result.row.label_correct


def test_a_suite_is_joined_by_unrolled_where_clients_take_several_steps(write, tmp_path):
    assert "unrolled" not in attacks_of("standard", [FedSGD()])
    assert "unrolled" in attacks_of("standard", [FedSGD(), FedAvg(local_steps=2)])
    text = "datasets: [mnist-sample]\nmodels: [lenet]\ndefenses: [none]\nsuite: standard\n"
    sweep, problems = read_sweep(write("mine.yaml", text + "protocols: [{name: fedavg, local_steps: 3}]\n"))
    assert not problems
    assert "unrolled" in [str(choice.value) for choice in sweep.attacks]


def test_attacks_that_are_for_gradients_say_so(write, tmp_path):
    text = "datasets: [mnist-sample]\nmodels: [lenet]\ndefenses: [none]\nsuite: standard\nprotocols: ["
    notices = {
        "{name: fedavg, local_steps: 3}]": "recursive is skipped on lenet: expected a gradient, got how",
        "{name: fedavg, local_steps: 3, optimizer: adam}]": "unrolled is skipped on lenet: expected local",
    }
    for protocol, notice in notices.items():
        sweep = load_sweep(write("mine.yaml", f"{text}{protocol}\n"), tmp_path)
        assert any(each.startswith(notice) for each in sweep.notices), sweep.notices


def test_recall_of_labels_counts_each_once():
    columns = label_columns([1, 1, 2, 3], torch.tensor([1, 2, 2, 5]))
    assert columns == {"label_true": 1, "label_recovered": 1, "label_correct": False, "label_recall": 0.5}
    assert label_columns([], torch.tensor([1]))["label_recall"] is None
    assert label_columns([1], None) == {**dict.fromkeys(columns), "label_recovered": 1}


def test_draws_of_a_protocol_are_addressed(make_trial, tmp_path):
    protocol = "secure_sum(clients=2, bits=8, modulus=32)"
    first, again = (shared(make_trial, tmp_path, protocol)[0].shared for _ in range(2))
    assert all(torch.equal(each, again[name]) for name, each in first.items())
    assert generator_for("protocol", 1).initial_seed() != generator_for("protocol", 2).initial_seed()
