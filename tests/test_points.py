"""Defenses of the model, of the batch and of the gradient: what is shared, and what the attacker gets."""

from pathlib import Path

import pytest
import torch
from running import inside
from test_training import by_plain_sgd, training
from torch.nn import functional

from leakbench.bench.attacks import Resources
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.lock_step import train_together
from leakbench.bench.trial import prepare, victim_of
from leakbench.core.configured import SettingError
from leakbench.defenses import DEFENSES, Point

pytestmark = pytest.mark.numeric

DATA = Path("data")
CONDITIONS = Conditions(Resources(slots=3), DATA)
HEAD = (
    "from dataclasses import dataclass\nimport torch\nfrom torch import nn\nfrom leakbench import Defense\n"
)
BOTTLENECK = f"{Path(__file__).parent.parent / 'examples' / 'bottleneck.py'}:Bottleneck"


@pytest.fixture
def define(write):
    """Writes a class with these methods to a file; returns its name."""

    def define_class(*methods, name="Mine", setting=""):
        lines = [f"@dataclass(frozen=True)\nclass {name}(Defense):", f"    {setting or 'pass'}", *methods]
        return f"{write(f'{name.lower()}.py', HEAD + chr(10).join(lines))}:{name}"

    return define_class


CODE = "7.0.decode.weight"

DROPOUT = "    def change_model(self, network):\n        return nn.Sequential(nn.Dropout(0.5), network)"
FLIP = "    def change_batch(self, images, labels, generator):\n        return images.flip(-1), labels"
SOFT = (
    "    def change_batch(self, images, labels, generator):\n"
    "        mixed = 0.5 * (images + images.roll(1, 0))\n"
    "        answers = nn.functional.one_hot(labels, 10).float()\n"
    "        return mixed, 0.5 * (answers + answers.roll(1, 0))"
)
HALVE = "    def apply(self, gradients, generator):\n        return {n: g / 2 for n, g in gradients.items()}"


def of_client(network, images, labels):
    loss = functional.cross_entropy(network(images), labels)
    names = [name for name, _ in network.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(network.parameters())), strict=True))


def close(first, second):
    return list(first) == list(second) and all(torch.allclose(first[n], second[n]) for n in first)


def test_a_defense_acts_where_it_overrides_a_method(define):
    assert DEFENSES.parse("none").points() == set()
    assert DEFENSES.parse("prune(ratio=0.1)").points() == {Point.GRADIENT}
    assert DEFENSES.parse(define(DROPOUT, name="A")).points() == {Point.MODEL}
    assert DEFENSES.parse(define(FLIP, HALVE, name="B")).points() == {Point.BATCH, Point.GRADIENT}


def test_one_that_acts_nowhere_is_refused(define):
    with pytest.raises(SettingError) as caught:
        DEFENSES.parse(name := define())
    assert str(caught.value) == (
        f"{name}: expected one of change_model, change_batch, apply_each, apply_knowing, apply to be "
        "overridden, found none"
    )


EACH = (
    "    def apply_each(self, gradients, generator):\n"
    "        return {n: g.sign().sum(0) for n, g in gradients.items()}"
)


def test_each_example_has_a_gradient_of_its_own(make_trial, define):
    trial = make_trial(defense=define(EACH, HALVE), protocol="fedsgd(batch_size=3)")
    assert trial.defense.points() == {Point.EXAMPLES, Point.GRADIENT}
    victim = victim_of(trial, DATA)
    each = [of_client(victim.network, victim.batch[n : n + 1], victim.labels[n : n + 1]) for n in range(3)]
    exposed = victim.share(trial.defense, trial.protocol)
    signs = {name: sum(own[name].sign() for own in each) / 2 for name in each[0]}
    assert sum(int((exposed.shared[name] != own).sum()) for name, own in signs.items()) < 50  # of 15826
    for name, own in of_client(victim.network, victim.batch, victim.labels).items():
        torch.testing.assert_close(exposed.gradient[name], own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("protocol", "examples"),
    [
        ("fedsgd(batch_size=2)", 2),
        ("fedavg(batch_size=2)", 2),
        ("fedavg(batch_size=2, local_steps=2)", 1),
        ("fedavg(batch_size=2, local_steps=2, local_batch=1)", 1),
        ("fedavg(batch_size=2, optimizer=adam)", 1),
        ("secure_sum(batch_size=2, clients=3)", 2),
        ('secure_sum(batch_size=2, clients=3, of="fedavg(optimizer=adam)")', 1),
    ],
)
def test_an_update_of_several_steps_is_one_example(make_trial, protocol, examples):
    trial = make_trial(defense="dp_gaussian(noise_multiplier=0, clip=0.001)", protocol=protocol)
    exposed = victim_of(trial, DATA).share(trial.defense, trial.protocol)
    noisy = make_trial(defense="dp_gaussian(noise_multiplier=0.1, clip=2)", protocol=protocol)
    account = victim_of(noisy, DATA).share(noisy.defense, noisy.protocol).account
    assert account.variance == pytest.approx((0.1 * 2 / examples) ** 2 / noisy.protocol.seen)
    norm = torch.cat([each.flatten() for each in exposed.shared.values()]).norm()
    if trial.protocol.seen == 1 and examples == 1:
        assert float(norm) == pytest.approx(0.001, rel=1e-4)
    elif trial.protocol.seen == 1:
        assert float(norm) < 0.00099  # the mean of two in different directions


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (
            "{n: g for n, g in gradients.items()}",
            "gradient '0.weight': expected shape (12, 3, 5, 5), got (1",
        ),
        ("{n: g.mul_(2)[0] for n, g in gradients.items()}", "changed gradient '0.weight' in place"),
        ("3", "expected gradients named ["),
    ],
)
def test_a_broken_promise_of_each_example_is_the_reason_in_the_row(make_trial, define, returned, text):
    method = f"    def apply_each(self, gradients, generator):\n        return {returned}"
    (result,) = run_trials([make_trial(defense=define(method))], Conditions(Resources(slots=2), DATA))
    assert result.row.status == "error"
    assert text in result.row.reason


def test_the_gradient_is_of_the_changed_batch_and_then_changed(make_trial, define):
    trial = make_trial(defense=define(FLIP, HALVE))
    victim = victim_of(trial, DATA)
    wanted = of_client(victim.network, victim.batch.flip(-1), victim.labels)
    exposed = victim.share(trial.defense)
    assert close(exposed.gradient, wanted)
    assert close(exposed.shared, {name: gradient / 2 for name, gradient in wanted.items()})


def test_a_batch_may_be_mixed_and_have_probabilities_for_labels(make_trial, define):
    trial = make_trial(defense=define(SOFT), protocol="fedsgd(batch_size=2)")
    victim = victim_of(trial, DATA)
    mixed = victim.batch.mean(0, keepdim=True).expand_as(victim.batch)
    answers = functional.one_hot(victim.labels, 10).float().mean(0).expand(2, -1)
    assert close(victim.share(trial.defense).shared, of_client(victim.network, mixed, answers))


def test_the_score_is_against_the_images_that_the_client_has(make_trial, define):
    trial = make_trial(defense=define(FLIP))
    (result,) = run_trials([trial], Conditions(Resources(slots=2), DATA))
    assert torch.equal(result.trace.truth, victim_of(trial, DATA).batch)


def test_layers_draw_at_the_client_and_rest_at_the_attacker(make_trial):
    trial = make_trial(defense=BOTTLENECK)
    case, victim, exposed = prepare(trial, 0, DATA)
    assert not any(layer.training for layer in case.model.modules())
    assert {n: tuple(p.shape) for n, p in case.model.named_parameters()} == {
        n: tuple(g.shape) for n, g in case.shared.items()
    }
    assert len(case.shared) > len(victim.gradient)
    resting = of_client(case.model, victim.batch, victim.labels)
    assert not close(case.shared, resting)  # it drew
    assert exposed.sent_bytes == 4 * sum(gradient.numel() for gradient in case.shared.values())


def test_layers_and_what_they_draw_are_the_same_again_and_others_for_another_image(make_trial):
    first, again, other = (
        prepare(make_trial(defense=BOTTLENECK, index=index), 0, DATA)[0] for index in (0, 0, 1)
    )
    assert close(first.shared, again.shared)
    assert close(dict(first.model.named_parameters()), dict(other.model.named_parameters()))
    drawn = [
        case.shared[CODE]
        - of_client(case.model, *victim_of(make_trial(index=index), DATA).source.batch([index]))[CODE]
        for index, case in enumerate((first, other))
    ]
    assert not torch.allclose(*drawn)


def test_the_layers_of_the_model_itself_stay_as_they_are(make_trial, define):
    network = prepare(make_trial(defense=define(DROPOUT)), 0, DATA)[0].model
    plain = victim_of(make_trial(), DATA).network
    assert close(dict(network[1].named_parameters()), dict(plain.named_parameters()))
    state = torch.random.get_rng_state()
    prepare(make_trial(defense=define(DROPOUT)), 0, DATA)
    assert torch.equal(state, torch.random.get_rng_state())


def test_trials_with_and_without_layers_run_in_one_sweep(make_trial):
    trials = [make_trial(defense=each, index=i) for each in ("none", BOTTLENECK) for i in (0, 1)]
    rows = [result.row for result in run_trials(trials, Conditions(Resources(slots=2), DATA))]
    assert [row.status for row in rows] == ["budget"] * 4
    assert len({row.match_loss for row in rows}) == 4


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (
            "    def change_model(self, network):\n        return 3",
            "change_model: expected a torch.nn.Module, got int",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images",
            "change_batch: expected a pair (images, labels), got Tensor",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images[:, :1], labels",
            "images: expected shape (1, 3, 32, 32), got (1, 1, 32, 32)",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images.double(), labels",
            "images: expected torch.float32, got torch.float64",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images / 0, labels",
            "images: holds NaN or infinity",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images, labels[:0]",
            "change_batch: expected labels for 1 images, got 0",
        ),
        (
            "    def change_batch(self, images, labels, generator):\n        return images.mul_(2), labels",
            "changed its batch in place; return new tensors",
        ),
    ],
)  # fmt: skip
def test_a_broken_promise_is_the_reason_in_the_row(make_trial, define, method, text):
    trial = make_trial(defense=define(method))
    (result,) = run_trials([trial], Conditions(Resources(slots=2), DATA))
    assert result.row.status == "error"
    assert result.row.reason == f"ContractError: defense {trial.defense}: {text}"


@pytest.mark.parametrize(
    ("attack", "model"),
    [
        ("adaptive(steps=40)", "lenet"),
        ("recursive", "lenet"),
        ("linear", "mlp"),
        ("hybrid(steps=6)", "mlp(hidden=[64])"),
    ],
)
def test_clipping_hides_nothing_from_an_attack_that_knows_it(make_trial, attack, model):
    trials = [
        make_trial(defense=each, attack=attack, model=model)
        for each in ("none", "clip(norm=0.01)", "dp_gaussian(noise_multiplier=0, clip=0.01)")
    ]
    rows = {row.defense_name: row for row in (each.row for each in run_trials(trials, CONDITIONS))}
    assert rows["clip"].shared_norm == pytest.approx(0.01, rel=1e-5)
    for name in ("clip", "dp_gaussian"):
        assert rows[name].ssim > rows["none"].ssim - 0.02
        assert rows[name].label_correct
        assert rows[name].neg_log_posterior < 1.2 * rows["none"].neg_log_posterior


KEPT = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("defense", "gradient", "size"),
    [
        ("none", torch.ones(10), 40),
        ("gaussian(std=1)", torch.ones(10), 40),
        ("float16", torch.ones(10), 20),
        ("bfloat16", torch.ones(10), 20),
        ("int8", torch.ones(10), 10 + 4),
        ("prune(ratio=0)", torch.ones(10), 40),  # nothing to leave out
        ("prune(ratio=0)", KEPT, 2 * 4 + 1),  # two values and a bitmap of a byte
        ("prune(ratio=0)", torch.cat([torch.ones(1), torch.zeros(999)]), 4 + 4),  # a value and its index
    ],
)
def test_what_is_sent_takes_its_bytes(defense, gradient, size):
    shared = DEFENSES.parse(defense).share({"g": gradient}, torch.Generator())
    assert shared.sent_bytes == size


def test_a_pruned_gradient_is_counted_tensor_by_tensor():
    prune = DEFENSES.parse("prune(ratio=0.75)")
    gradients = {"weight": torch.arange(1.0, 9.0), "bias": torch.ones(1)}
    assert prune.share(gradients, torch.Generator()).sent_bytes == (2 * 4 + 1) + 4


RESTORED = FLIP + "\n    def restore_batch(self, images):\n        return images.flip(-1)\n"


def test_those_who_know_the_defense_undo_what_it_did_to_the_images(make_trial, define):
    """`recursive` knows defenses, and `cosine` does not; both rebuild what entered the network."""
    flip, undone = define(FLIP), define(RESTORED, name="Undone")
    trials = [make_trial(defense=each, attack="recursive") for each in ("none", flip, undone)]
    plain, flipped, restored = [each.row for each in run_trials(trials, CONDITIONS)]
    assert plain.input_score is None
    assert min(plain.ssim, restored.ssim, flipped.input_score, restored.input_score) > 0.9
    assert flipped.ssim < 0.5
    unaware = make_trial(defense=undone, attack="cosine(steps=40)")
    (result,) = run_trials([unaware], CONDITIONS)
    assert result.row.ssim < 0.5


def test_what_enters_may_lie_out_of_the_range_of_images(make_trial, define):
    wide = "    def change_batch(self, images, labels, generator):\n        return 4 * images - 2, labels"
    trial = make_trial(defense=define(wide), attack="recursive")
    (result,) = run_trials([trial], CONDITIONS)
    assert result.row.input_score > 0.99
    assert result.row.ssim < 0.7  # of pixels that are clipped


def test_images_of_clients_that_have_one_each_are_restored_one_by_one(make_trial, define):
    alone = "\n    def restore_batch(self, images):\n        return images * 0 + len(images) / 10\n"
    found = {}
    for protocol in ("secure_sum(clients=2)", "fedsgd(batch_size=2)"):
        trial = make_trial(defense=define(FLIP + alone), protocol=protocol, attack="adaptive(steps=2)")
        (result,) = run_trials([trial], CONDITIONS)
        found[protocol] = result.trace.reconstruction.unique().tolist()
    assert list(found.values()) == [[pytest.approx(0.1)], [pytest.approx(0.2)]]


@pytest.mark.parametrize("model", ["lenet", "mlp(hidden=[32])"])
def test_what_is_before_random_draws_is_attacked_as_if_there_were_none(make_trial, model):
    trials = [
        make_trial(defense=each, model=model, attack="recursive")
        for each in ("none", "precode(size=16)", "precode(size=16, beta=10.0)")
    ]
    plain, *random = [each.row for each in run_trials(trials, CONDITIONS)]
    assert plain.ssim > 0.9
    for row in random:
        assert row.ssim > plain.ssim - 0.02
        assert row.label_correct
        assert (row.classes, row.match_loss) == (10, None)  # of the whole network nothing is matched
    case = prepare(trials[1], 0, DATA)[0]
    assert list(case.shared)[-1].endswith("encode.bias")
    assert case.spec.logit_shape == (1, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": "cosine(steps=2)"},
        {"protocol": "fedsgd(batch_size=2)"},
        {"protocol": "fedavg(local_steps=2)"},
    ],
)
def test_else_the_whole_network_is_attacked(make_trial, changes):
    trial = make_trial(**{"defense": "precode(size=16)", "attack": "adaptive(steps=2)", **changes})
    case = prepare(trial, 0, DATA)[0]
    assert case.whole is None
    assert case.spec.classes == 10
    (result,) = run_trials([trial], CONDITIONS)
    assert result.row.status != "error"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("return 3", "before_draws: expected a torch.nn.Module or None, got int"),
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))",
            "before_draws: expected parameters of the network, got '1.bias'",
        ),
    ],
)
def test_a_part_that_is_none_is_the_reason_in_its_row(make_trial, define, part, reason):
    wrong = define(DROPOUT + f"\n    def before_draws(self, network):\n        {part}\n")
    (result,) = run_trials([make_trial(defense=wrong, attack="adaptive(steps=2)")], CONDITIONS)
    assert result.row.reason == f"ContractError: defense {wrong}: {reason}"


@pytest.mark.parametrize("part", ["network[1][-1] = nn.Flatten(); return network", "return None"])
def test_without_a_last_layer_the_whole_network_is_attacked(make_trial, define, part):
    """The part of the first ends in a nn.Flatten."""
    mine = define(DROPOUT + f"\n    def before_draws(self, network):\n        {part}\n")
    assert prepare(make_trial(defense=mine, attack="adaptive(steps=2)"), 0, DATA)[0].whole is None


def test_what_enters_differs_from_round_to_round(make_trial, define):
    flip = define(FLIP)
    rounds = make_trial(defense=flip, protocol="fedsgd(rounds=2)", attack="recursive")
    (result,) = run_trials([rounds], CONDITIONS)
    assert result.row.status != "error"
    assert result.row.input_score is None


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("return images[:, :1]", "expected shape (1, 3, 32, 32), got (1, 1, 32, 32)"),
        ("return images.mul_(2)", "changed its input in place"),
        ("return images / 0", "holds NaN or infinity"),
    ],
)
def test_a_restoration_that_breaks_its_contract_is_the_reason_in_its_row(make_trial, define, method, reason):
    wrong = define(FLIP + f"\n    def restore_batch(self, images):\n        {method}\n")
    trials = [make_trial(defense=each, attack="adaptive(steps=4)") for each in ("none", wrong)]
    rows = {row.defense: row for row in (each.row for each in run_trials(trials, CONDITIONS))}
    assert rows["none"].status != "error"  # the others are not lost
    assert rows[wrong].reason == f"ContractError: defense {wrong}: restore_batch: {reason}"


def test_added_layers_are_trained():
    (plain,) = train_together([training()], DATA)
    (trained,) = train_together([training(BOTTLENECK)], DATA, keep=[0, 1])
    assert trained.row.status == "converged"
    assert trained.row.accuracy != plain.row.accuracy
    before, after = trained.weights[0], trained.weights[1]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("decode" in name for name in moved)
    again = train_together([training(BOTTLENECK)], DATA, keep=[1])[0]
    assert close(after, again.weights[1])


def test_training_on_changed_batches_is_training_on_them(define):
    wanted = training(define(FLIP), train=range(40))
    (trained,) = train_together([wanted], DATA, keep=[1])
    network = by_plain_sgd(wanted, change=lambda batch: batch.flip(-1))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(trained.weights[1][name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_a_defense_that_breaks_on_a_batch_ends_its_training_with_the_reason(define):
    (trained,) = train_together([training(define(FLIP.replace("images.flip(-1), labels", "3")))], DATA)
    assert (trained.row.status, trained.row.steps) == ("error", None)
    assert "change_batch: expected a pair (images, labels), got int" in trained.row.reason


def test_layers_that_do_not_fit_the_model_are_said_before_the_start(write, capsys):
    file = write(
        "net.py",
        "from torch import nn\nclass Net(nn.Sequential):\n"
        "    def __init__(self, image_shape, classes):\n"
        "        super().__init__(nn.Conv2d(image_shape[0], classes, 32), nn.Flatten())\n",
    )
    sweep = write(
        "s.yaml",
        f"datasets: [cifar10-sample]\nmodels: ['{file}:Net']\n"
        f"defenses: ['{BOTTLENECK}']\nattacks: [dlg(steps=1)]\n",
    )
    assert inside(file.parent, "sweep", sweep) == 2
    place = f"{sweep}: defenses[0]: {BOTTLENECK} in {file}:Net on cifar10-sample"
    assert capsys.readouterr().err == (
        f"{place}: expected a model that takes images of 3x32x32, got IndexError: list index out of range\n"
    )


@pytest.mark.parametrize(
    "method",
    [
        FLIP.replace("images.flip(-1)", "images.mul_(2)"),
        HALVE.replace("g / 2", "g.mul_(2)"),
        "    def change_model(self, network):\n"
        "        network[0].weight.data.zero_()\n        return network",
    ],
)
def test_one_that_changes_what_it_was_given_spoils_nothing_for_others(make_trial, define, method):
    victim = victim_of(make_trial(), DATA)
    before = victim.batch.clone(), {n: g.clone() for n, g in victim.gradient.items()}
    weights = {name: weight.clone() for name, weight in victim.network.named_parameters()}
    list(run_trials([make_trial(defense=define(method))], Conditions(Resources(slots=2), DATA)))
    assert victim is victim_of(make_trial(), DATA)
    assert torch.equal(victim.batch, before[0])
    assert close(victim.gradient, before[1])
    assert close(dict(victim.network.named_parameters()), weights)
