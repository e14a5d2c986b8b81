"""Every attack that optimises: what it minimises, compared with plain code, and what it may not see."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from leakbench.bench.attacks import ATTACKS, Case, Resources, Spec, Status
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.handed_in import HANDED_IN
from leakbench.bench.attacks.regularised import EVERY
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient, trained_parameters
from leakbench.bench.modalities import IMAGES
from leakbench.bench.posterior import total_variation
from leakbench.bench.trial import prepare, victim_of
from leakbench.core.errors import UserError
from leakbench.defenses import Account
from leakbench.sweeps.checks import load_sweep

DATA = Path("data")
SHORT = {
    "dlg": "dlg(steps=3)",
    "idlg": "idlg(steps=3)",
    "cosine": "cosine(steps=6)",
    "adaptive": "adaptive(steps=6)",
    "linear": "linear",
    "recursive": "recursive(steps=50)",
    "hybrid": "hybrid(steps=3)",
    "unrolled": "unrolled(steps=3)",
    "defended": "defended(steps=6)",
}
STEPS = "fedavg(local_steps=2, lr=0.1)"  # what `unrolled` is for
ADAM = "cosine(optimizer=adam, steps=5)"
DIGIT = "mnist-sample"


def outcome(trials, slots=8):
    return list(run_trials(trials, Conditions(Resources(slots=slots))))


def test_every_attack_is_tried_here():
    own = [attack.name for attack in ATTACKS if attack.modality is IMAGES and attack.name not in HANDED_IN]
    assert own == list(SHORT)


# what they may not see


@pytest.mark.parametrize("attack", [*SHORT.values(), ADAM])
def test_wrong_truths_change_nothing_that_an_attack_finds(make_trial, monkeypatch, attack):
    """The client is exchanged for one that has other images and labels, but shares the same gradient."""
    model = "mlp(hidden=[32])" if attack == "linear" else "lenet"
    names = {"attack": attack, "model": model, "protocol": STEPS if "unrolled" in attack else "fedsgd"}
    trials = [make_trial(**names, dataset=DIGIT, defense=each) for each in ("none", "prune(ratio=0.5)")]
    honest = outcome(trials)
    victim = victim_of(trials[0], DATA)
    liar = dataclasses.replace(victim, batch=1 - victim.batch, labels=(victim.labels + 3) % 10)
    monkeypatch.setattr("leakbench.bench.trial.victim_of", lambda *_: liar)
    misled = outcome(trials)
    for a, b in zip(honest, misled, strict=True):
        assert torch.equal(a.trace.reconstruction, b.trace.reconstruction)
        assert a.trace.objective == b.trace.objective
        assert a.row.label_recovered == b.row.label_recovered
        assert a.row.ssim != b.row.ssim


# what they minimise


def plain_objective(attack, case, images, labels):
    """By autograd alone, from what the papers say; images (N, C, H, W), labels the classes (N,)."""
    model, shared = case.model, case.shared
    scores = model(images)
    residual = shared["7.bias"][None]
    if attack.name == "adaptive" and case.spec.count == 1 and case.account == Account():
        loss = (residual * scores).sum()
    else:
        loss = functional.cross_entropy(scores, labels)
    names, parameters = zip(*trained_parameters(model), strict=True)
    dummy = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    flat = {
        name: torch.cat([each[key].flatten() for key in names])
        for name, each in (("dummy", dummy), ("shared", shared))
    }
    if attack.name == "idlg":
        return float((flat["dummy"] - flat["shared"]).square().sum())
    if attack.name == "cosine":
        weight = 0.1 if attack.optimizer == "lbfgs" else 0.01
        angle = functional.cosine_similarity(flat["dummy"], flat["shared"], dim=0)
        return float(1 - angle + weight * plain_variation(images))
    kept = torch.ones_like(flat["shared"])
    if case.account.kept:
        kept = torch.cat([case.account.kept[key].flatten() for key in names]).to(kept.dtype)
    square = (flat["shared"] * kept).square().sum()
    pixels = images.numel()
    weight = max(10.0, 0.3 * 1000 * 2 * case.account.variance * pixels / (0.1 * float(square)))
    distance = (kept * (flat["dummy"] - flat["shared"])).square().sum()
    return float(1000 * distance / square + weight * plain_variation(images))


def plain_variation(images):
    total = 0.0
    count, channels, height, width = images.shape
    for image in images.detach().double():
        for plane in image:
            for row in range(height - 1):
                for column in range(width - 1):
                    down = float(plane[row + 1, column] - plane[row, column])
                    right = float(plane[row, column + 1] - plane[row, column])
                    total += math.sqrt(down**2 + right**2 + 1e-6)
    return total / (count * channels * (height - 1) * (width - 1))


def test_total_variation_is_that_of_a_plain_loop():
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert float(total_variation(images)) == pytest.approx(plain_variation(images), rel=1e-5)


@pytest.mark.parametrize("protocol", ["fedsgd", "fedsgd(batch_size=2)"])
@pytest.mark.parametrize("defense", ["none", "prune(ratio=0.5)", "gaussian(variance=0.001)"])
@pytest.mark.parametrize("attack", ["idlg", "cosine", "cosine(optimizer=adam)", "adaptive"])
def test_the_objective_is_that_of_a_plain_rendering(make_trial, attack, defense, protocol):
    trial = make_trial(attack=attack, defense=defense, protocol=protocol)
    case, _, _ = prepare(trial, 0, DATA)
    own = trial.attack
    (run, *_) = Feed(own, iter([case]))
    batch = Batch(own, run, Resources(slots=2))
    batch.put(0, run)
    loss, _ = batch.closure(batch.stepper.x)
    images = own.pixels(run.candidate.images)
    expected = plain_objective(own, case, images, run.candidate.labels_at(run.variable))
    assert float(loss[0]) == pytest.approx(expected, rel=1e-3)


def test_idlg_is_dlg_with_the_label_it_reads(make_trial):
    """In both engines; `reference` is `torch.optim.LBFGS` on the image alone."""
    rows = [
        each.row
        for engine in ("batched", "reference")
        for each in outcome([make_trial(attack=f"idlg(steps=6, engine={engine})", index=i) for i in (0, 1)])
    ]
    for fast, slow in zip(rows[:2], rows[2:], strict=True):
        assert fast.label_correct
        assert slow.label_correct
        assert fast.match_loss == pytest.approx(slow.match_loss, rel=0.02)


# the parts of an attack


def test_where_readings_of_the_label_differ_each_is_tried():
    """Features of both signs: the first reading is wrong, and the image comes all the same."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=2), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 36, 5)
    )  # fmt: skip
    nn.init.constant_(model[0].bias, -0.5)
    image = torch.rand(1, 1, 12, 12)
    shared = shared_gradient(model, image, torch.tensor([3]))
    case = Case(7, model.eval(), shared, Spec((1, 12, 12), 5), ("race",))
    attack = ATTACKS.parse("idlg(steps=40)")
    assert [int(each.labels_at(each.variable)) for each in attack.candidates(case)] != [3]
    seen = []
    ((number, found),) = attack.run(
        iter([case]), lambda numbers, steps, *_: seen.append((*numbers, *steps)), Resources(slots=8)
    )
    assert number == 7
    assert found.labels.tolist() == [3]
    assert float((found.x - image).abs().mean()) < 0.05
    assert seen == [(7, step) for step in range(found.iterations + 1)]


def test_stages_end_where_they_stand_still_and_their_steps_add_up(make_trial):
    noisy = make_trial(attack="adaptive", dataset=DIGIT, defense="gaussian(variance=0.0001)")
    (still, short) = outcome([noisy, make_trial(attack="adaptive(steps=10)", dataset=DIGIT)])
    assert still.row.iterations < 200
    assert still.row.status == Status.CONVERGED
    assert "the objective fell by less than" in still.row.reason
    assert short.row.iterations == 10
    assert short.row.reason == "stopped at the limit of 10 steps"
    assert len(short.trace.objective) == len(short.trace.errors) == 11
    for result in (still, short):
        assert result.row.objective == pytest.approx(min(result.trace.objective[-2:]), rel=0.05)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 200])
def test_however_short_an_attack_is_its_stages_fill_it(make_trial, steps):
    case, _, _ = prepare(make_trial(attack=f"adaptive(steps={steps})"), 0, DATA)
    (candidate,) = ATTACKS.parse(f"adaptive(steps={steps})").candidates(case)
    assert sum(stage.steps for stage in candidate.stages) == steps
    weights = [stage.terms["tv"] for stage in candidate.stages]
    assert weights == sorted(weights, reverse=True)


def test_under_noise_no_stage_goes_below_its_floor(make_trial):
    case, _, _ = prepare(make_trial(attack="adaptive", defense="gaussian(variance=0.001)"), 0, DATA)
    (candidate,) = ATTACKS.parse("adaptive").candidates(case)
    weights = [stage.terms["tv"] for stage in candidate.stages]
    assert len(set(weights)) == len(weights) < 6  # equal weights are one stage
    assert weights[-1] > 0.1
    assert sum(stage.steps for stage in candidate.stages) == 200


def test_the_residual_is_taken_where_nothing_hides_it(make_trial):
    def known(**names):
        case, _, _ = prepare(make_trial(attack="adaptive", **names), 0, DATA)
        return {float(each.terms["is known"]) for each in ATTACKS.parse("adaptive").candidates(case)}

    assert known() == known(defense="int8") == known(defense="gaussian(variance=1e-6)") == {1.0}
    assert known(defense="prune(ratio=0.5)") == {0.0}  # of the bias
    assert known(defense="gaussian(variance=0.0001)") == {0.0}  # its noise costs more than it tells
    assert known(protocol="fedsgd(batch_size=2)") == {0.0}  # it is that of both images
    assert known(defense="clip(norm=0.001)") == {1.0}  # scaled like all the rest
    assert known(defense="gaussian(relative=0.001)") == {1.0}
    assert known(defense="gaussian(relative=0.1)") == {0.0}


def test_a_model_that_does_not_end_in_a_linear_layer(make_trial, write):
    """Labels are then optimised, too, or the trial says why not."""
    path = write(
        "net.py",
        "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self, image_shape, classes):\n"
        "        super().__init__(nn.Conv2d(image_shape[0], 4, 5, padding=2), nn.Sigmoid(),\n"
        "            nn.Conv2d(4, classes, 5), nn.AvgPool2d(28), nn.Flatten())\n",
    )
    model = f"{path}:Net(weights=default)"
    free, refused = (
        outcome([make_trial(attack=SHORT[name], model=model)])[0] for name in ("adaptive", "idlg")
    )
    assert free.row.label_recovered is not None
    assert math.isfinite(free.row.ssim)
    assert refused.row.status == "error"
    assert "expected a model whose class scores come from an nn.Linear" in refused.row.reason


# in any company


@pytest.mark.parametrize(
    "attack",
    [
        "adaptive(steps=6)",
        ADAM,
        pytest.param("cosine(steps=6)", marks=pytest.mark.long),
        pytest.param("idlg(steps=3)", marks=pytest.mark.long),
    ],
)
def test_rows_are_bit_for_bit_the_same_in_any_company(make_trial, attack):
    defenses = ("none", "gaussian(variance=0.001)", "prune(ratio=0.5)")
    trials = [
        make_trial(attack=attack, dataset=DIGIT, index=index, defense=each)
        for index in range(3)
        for each in defenses
    ]

    def rows(own, slots=8):
        return {
            result.row.key: {
                name: value for name, value in dataclasses.asdict(result.row).items() if "seconds" not in name
            }
            for result in outcome(own, slots)
        }

    plain = rows(trials)
    assert len(plain) == 9  # more than there are slots
    assert rows(trials[::-1]) == plain
    assert rows(trials[:5]) | rows(trials[5:]) == plain


# what comes of them


def test_half_pruned_gradients_leak(make_trial):
    defenses = ("none", "prune(ratio=0.5)", "int8", "gaussian(variance=0.0001)")
    names = {"attack": "adaptive(steps=60)", "dataset": DIGIT}
    rows = [each.row for each in outcome([make_trial(**names, defense=each) for each in defenses])]
    ssim = {row.defense: row.ssim for row in rows}
    assert min(ssim[each] for each in defenses[:3]) > 0.9
    assert ssim["gaussian(variance=0.0001)"] > 0.75
    assert all(row.label_correct and row.threat == "defense" for row in rows)


def test_noise_of_many_rounds_is_averaged_away(make_trial):
    trials = [
        make_trial(
            attack="adaptive(steps=60)",
            defense="gaussian(variance=0.01)",
            protocol=f"fedsgd(rounds={rounds})",
        )
        for rounds in (1, 100)
    ]
    once, often = (outcome([trial])[0].row.ssim for trial in trials)
    assert often > once + 0.3


def test_an_outer_step_is_as_many_evaluations_as_it_says(make_trial):
    trial = make_trial(attack="adaptive(steps=10)")
    assert trial.attack.evaluations == 10 * EVERY


def test_an_attack_that_a_model_is_not_for_is_refused_before_the_start(write, tmp_path):
    path = write(
        "net.py",
        "from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self, image_shape, classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, classes), nn.Tanh())\n",
    )
    file = write(
        "mine.yaml",
        f"datasets: [mnist-sample]\nmodels: ['{path}:Net']\ndefenses: [none]\nattacks: [idlg, adaptive]\n",
    )
    with pytest.raises(UserError) as error:
        load_sweep(file, tmp_path)
    (line,) = error.value.problems
    assert line.startswith(f"{file}: attacks[0]: idlg on {path}:Net and mnist-sample: ")
    assert "expected a model whose class scores come from an nn.Linear" in line
