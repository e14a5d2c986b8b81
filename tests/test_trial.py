"""One trial: what it is named by, what it draws, and what becomes of a failure."""

import dataclasses
import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from leakbench.bench.attacks import Resources
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.execution import Conditions, Watcher, run_trials
from leakbench.bench.hardware import hardware_of
from leakbench.bench.metrics import ssim
from leakbench.bench.modalities import TEXTS
from leakbench.bench.models import MODELS
from leakbench.bench.row import MEASURED, Row
from leakbench.bench.trial import Trial, victim_of

pytestmark = pytest.mark.numeric

DATA = Path("data")


def run_trial(trial, snapshot_every=0):
    (result,) = run_trials([trial], Conditions(Resources(slots=1), DATA, snapshot_every))
    return result


def compared(row):
    """All of a row that does not tell the time."""
    return {key: value for key, value in dataclasses.asdict(row).items() if "seconds" not in key}


def test_a_trial_gives_a_whole_row(make_trial):
    trial = make_trial(defense="gaussian(variance=0.001)", index=3)
    row = run_trial(trial).row
    assert (row.dataset, row.index, row.model, row.model_seed) == ("cifar10-sample", 3, "lenet", 0)
    assert (row.attack, row.defense, row.family) == (
        "dlg(steps=2)",
        "gaussian(variance=0.001)",
        "gaussian",
    )
    assert (row.strength, row.start, row.status, row.iterations) == (0.001, 0, "budget", 2)
    assert row.key == trial.key
    assert row.label_true == 0
    assert row.label_correct is (row.label_recovered == row.label_true)
    assert row.psnr == pytest.approx(-10 * math.log10(row.mse))
    assert 0 <= row.mse <= row.mse_raw
    assert row.seconds > 0
    assert row.defense_seconds > 0
    assert row.sent_bytes == 4 * 15_826  # float32, every parameter of the LeNet
    assert row.finite is True
    assert row.gradient_norm == pytest.approx(norm(victim_of(trial, DATA).gradient))
    assert row.shared_norm == pytest.approx(norm(shared(trial)))
    assert row.gradient_norm < row.shared_norm  # there is noise of 15,000 entries in it
    unmeasured = {name for name in MEASURED if getattr(row, name) is None}
    assert unmeasured == {"input_score", *TEXTS.columns}
    assert (row.device, row.hardware, row.torch_version) == ("cpu", hardware_of("cpu"), torch.__version__)
    assert row.classes == 10


def test_equal_key_equal_result_in_any_order(make_trial):
    trials = [make_trial(index=i, defense=d) for i in (0, 1) for d in ("none", "gaussian(std=0.1)")]
    forward = [compared(run_trial(trial).row) for trial in trials]
    torch.rand(5)
    backward = [compared(run_trial(trial).row) for trial in reversed(trials)]
    assert forward == backward[::-1]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar100-sample"},
        {"index": 1},
        {"model": "lenet(activation=tanh)"},
        {"model": "lenet(weights=default)"},
        {"model_seed": 1},
        {"protocol": "fedsgd(batch_size=2)"},
        {"protocol": "fedsgd(rounds=2)"},
        {"attack": "dlg(steps=3)"},
        {"attack": "dlg(steps=2, lr=0.5)"},
        {"attack": "dlg(steps=2, engine=reference)"},
        {"attack": "dlg(steps=2, init=uniform)"},
        {"defense": "float16"},
        {"start": 1},
    ],
    ids=str,
)
def test_everything_that_decides_the_result_is_in_the_key(make_trial, change):
    assert make_trial(**change).key != make_trial().key


def test_a_key_is_the_same_in_every_process_and_spelling(make_trial):
    """Written down here: a change of it makes every stored row a stranger."""
    assert make_trial().key == make_trial(attack="dlg( steps = 2 )").key
    assert make_trial().key == "c19aa2504a6afc975d5e28024b04ee97"


def test_a_trial_survives_pickling_with_a_users_file(make_trial, write):
    path = write(
        "mine.py",
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Halve(Defense):\n    factor: float = 0.5\n"
        "    def apply(self, gradients, generator):\n"
        "        return {n: g * self.factor for n, g in gradients.items()}\n",
    )
    trial = make_trial(defense=f"{path}:Halve(factor=0.25)")
    again = pickle.loads(pickle.dumps(trial))
    assert again == trial
    assert again.key == trial.key
    row = run_trial(again).row
    assert row.shared_norm == pytest.approx(row.gradient_norm / 4)
    assert row.family == f"{path}:Halve"


def test_a_changed_file_is_another_trial(make_trial, write):
    source = "import leakbench\nfrom torch import nn\nclass Net(nn.Linear): pass\n"
    path = write("net.py", source)
    before = make_trial(model=f"{path}:Net(in_features=3, out_features=2)").key
    path.write_text(source + "# changed\n")
    assert make_trial(model=f"{path}:Net(in_features=3, out_features=2)").key != before


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3072, 10))
"""


def fill(folder):
    """A file of each kind that a trial can name, the same in every folder."""
    shutil.copytree("examples", folder)
    shutil.copy("defenses/noise.py", folder)
    (folder / "net.py").write_text(NET)
    torch.save(MODELS.parse("lenet").build((3, 32, 32), 10, 0).state_dict(), folder / "lenet.pt")
    (folder / "pictures").mkdir()
    image, _ = open_dataset(DATASETS.parse("cifar10-sample"), DATA)[0]
    pixels = (image.permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(pixels).save(folder / "pictures" / "0.png")


@pytest.mark.parametrize(
    "named",
    [
        {"defense": "{}/noise.py:Gaussian(std=0.1)"},
        {"defense": "{}/bottleneck.py:Bottleneck"},
        {"model": "{}/net.py:Net", "defense": "gaussian(std=0.1)"},
        {"model": "lenet(weights=checkpoint:{}/lenet.pt)", "defense": "gaussian(std=0.1)"},
        {"dataset": "folder(path={}/pictures)", "defense": "gaussian(std=0.1)"},
    ],
)
def test_a_file_gives_the_same_numbers_in_every_folder(make_trial, tmp_path, named):
    rows = []
    for folder in (tmp_path / "one", tmp_path / "two" / "deeper"):
        fill(folder)
        trial = make_trial(**{key: text.format(folder) for key, text in named.items()})
        rows.append(run_trial(trial).row)
    assert len({row.match_loss for row in rows}) == 1


def norm(gradients):
    return float(torch.cat([gradient.flatten() for gradient in gradients.values()]).norm())


def shared(trial):
    return victim_of(trial, DATA).share(trial.defense, trial.protocol).shared


def test_all_restarts_see_one_gradient(make_trial):
    first, second = (shared(make_trial(defense="gaussian(std=0.1)", start=start)) for start in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def off(trial):
    """What its defense changed, as one vector."""
    plain = victim_of(trial, DATA).gradient
    return torch.cat([(each - plain[name]).flatten() for name, each in shared(trial).items()])


def test_in_several_rounds_noise_averages_out(make_trial):
    once, often = (
        off(make_trial(defense="laplacian(std=0.1)", protocol=f"fedsgd(rounds={n})")) for n in (1, 25)
    )
    assert float(once.std()) == pytest.approx(0.1, rel=0.02)
    assert float(often.std()) == pytest.approx(0.1 / 5, rel=0.02)
    assert float(torch.corrcoef(torch.stack([once, often]))[0, 1]) == pytest.approx(0.2, abs=0.05)


def test_rounds_do_not_help_against_what_draws_nothing(make_trial):
    once, often = (
        off(make_trial(defense="prune(ratio=0.5)", protocol=f"fedsgd(rounds={n})")) for n in (1, 3)
    )
    assert torch.allclose(once, often, atol=1e-6)


def test_noise_of_two_images_is_not_the_same(make_trial):
    noise = [
        {
            name: gradient - shared(make_trial(index=index))[name]
            for name, gradient in shared(make_trial(defense="gaussian(std=0.1)", index=index)).items()
        }
        for index in (0, 1)
    ]
    assert not torch.allclose(noise[0]["0.weight"], noise[1]["0.weight"], atol=1e-3)


def test_both_readings_of_equal_noise_are_one_experiment(make_trial):
    by_variance, by_std = (
        run_trial(make_trial(defense=text)).row for text in ("gaussian(variance=0.01)", "gaussian(std=0.1)")
    )
    assert by_variance.match_loss == by_std.match_loss
    assert by_variance.strength == pytest.approx(by_std.strength)
    assert by_variance.key != by_std.key


def test_every_defense_starts_from_the_same_dummy(make_trial):
    first, second = (run_trial(make_trial(defense=text), 1).trace.snapshots[0] for text in ("none", "int8"))
    assert torch.equal(first, second)
    third = run_trial(make_trial(start=1), 1).trace.snapshots[0]
    assert not torch.equal(first, third)


def test_the_trace_tells_the_way(make_trial):
    result = run_trial(make_trial(attack="dlg(steps=7)"), 3)
    trace = result.trace
    assert len(trace.objective) == len(trace.errors) == 8
    assert list(trace.snapshots) == [0, 3, 6]
    assert trace.objective[0] > trace.objective[-1]
    truth, _ = open_dataset(make_trial().dataset, DATA).batch([0])
    assert torch.equal(trace.truth, truth)
    assert trace.errors[3] == pytest.approx(float((trace.snapshots[3] - truth).square().mean()))


def test_a_gradient_of_several_images_is_of_those_that_follow(make_trial):
    result = run_trial(make_trial(index=3, protocol="fedsgd(batch_size=2)"), 1)
    images, labels = open_dataset(make_trial().dataset, DATA).batch([3, 4])
    assert torch.equal(result.trace.truth, images)
    assert result.trace.reconstruction.shape == (2, 3, 32, 32)
    assert {picture.shape for picture in result.trace.snapshots.values()} == {(2, 3, 32, 32)}
    row, found = result.row, result.trace.reconstruction.clamp(0, 1)
    each = [ssim(image, other) for image, other in zip(images, found, strict=True)]
    assert (row.ssim, row.ssim_least) == pytest.approx((sum(each) / 2, min(each)))
    assert row.mse == pytest.approx(float((images - found).square().mean()))
    assert row.label_true == labels[0]


@pytest.mark.long
@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_two_images_are_rebuilt_from_their_mean_gradient(make_trial, engine):
    """In the order of the true ones, whatever the order in which the attack came to them."""
    names = {"dataset": "mnist-sample", "protocol": "fedsgd(batch_size=2)", "attack": f"dlg(engine={engine})"}
    results = [run_trial(make_trial(**names, start=start), 30) for start in range(2)]
    best = min(results, key=lambda result: result.row.match_loss)
    assert best.row.ssim_least > 0.9
    assert best.row.label_correct
    assert best.trace.errors[-1] < 1e-3
    last = best.trace.snapshots[max(best.trace.snapshots)]
    assert (last - best.trace.truth).square().flatten(1).mean(1).max() < 0.05


def test_steps_add_up_to_the_budget_however_a_trial_ends(make_trial, write):
    source = "from dataclasses import dataclass\nfrom leakbench import Defense\n@dataclass(frozen=True)\n"
    source += "class Bad(Defense):\n    def apply(self, gradients, generator):\n        raise ValueError\n"
    trials = [
        make_trial(attack="dlg(steps=30, stop_loss=30)", defense=defense)
        for defense in ("none", "gaussian(variance=0.1)", f"{write('bad.py', source)}:Bad")
    ]
    steps = []
    watcher = Watcher(moved=steps.append)
    results = list(run_trials(trials, Conditions(Resources(slots=3)), watcher))
    assert {result.row.status for result in results} == {"converged", "budget", "error"}
    assert sum(steps) == 3 * 30


def test_what_is_a_trials_alone_is_announced(make_trial):
    """So that whoever watches knows whose code was running when a worker died."""
    trials = [make_trial(), make_trial(index=1)]
    told = []
    list(run_trials(trials, Conditions(Resources(slots=2)), Watcher(preparing=told.append)))
    assert told == [trials[0], None, trials[1], None]


def test_a_score_that_fails_loses_no_trial(make_trial, monkeypatch):
    def fail(*_):
        raise ArithmeticError("no score")

    monkeypatch.setattr("leakbench.bench.modalities.images.score", fail)
    results = list(run_trials([make_trial(), make_trial(index=1)], Conditions(Resources(slots=2))))
    assert {result.row.index for result in results} == {0, 1}
    assert {result.row.reason for result in results} == {"ArithmeticError: no score"}


def test_a_trial_that_fails_is_a_row(make_trial, write):
    path = write(
        "bad.py",
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Bad(Defense):\n"
        "    def apply(self, gradients, generator):\n        raise RuntimeError('no\\nway')\n",
    )
    trial = make_trial(defense=f"{path}:Bad")
    result = run_trial(trial)
    assert result.trace is None
    assert (result.row.status, result.row.reason) == ("error", "RuntimeError: no way")
    assert all(getattr(result.row, name) is None for name in MEASURED)
    assert result.row.key == trial.key


def test_a_broken_promise_of_a_defense_is_a_row(make_trial, write):
    path = write(
        "nan.py",
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Nan(Defense):\n"
        "    def apply(self, gradients, generator):\n"
        "        return {n: g * float('nan') for n, g in gradients.items()}\n",
    )
    row = run_trial(make_trial(defense=f"{path}:Nan")).row
    assert row.status == "error"
    assert "holds NaN or infinity" in row.reason


def test_a_match_loss_that_is_no_number_is_reported(make_trial):
    row = run_trial(make_trial(model="lenet(activation=relu)", attack="dlg(lr=1e30, pixel_limit=1e38)")).row
    assert (row.status, row.finite) == ("diverged", False)
    assert row.reason.startswith("match loss became")


def test_row_columns_are_the_documented_ones():
    assert [field.name for field in dataclasses.fields(Row)] == [
        "key", "dataset", "index", "model", "model_seed", "protocol", "attack", "defense", "family",
        "strength", "start", "dataset_name", "model_name", "protocol_name", "attack_name", "defense_name",
        "dataset_settings", "model_settings", "protocol_settings", "attack_settings", "defense_settings",
        "status", "reason", "iterations", "match_loss", "objective", "finite",
        "gradient_norm", "shared_norm", "signal_to_noise", "sent_bytes", "defense_seconds", "modality",
        "score", "input_score", "mse", "mse_raw", "psnr", "ssim", "ssim_least", "rouge_1", "rouge_2",
        "rouge_l", "token_accuracy", "bag_recall", "bag_precision", "exact", "neg_log_posterior",
        "label_true", "label_recovered", "label_correct", "label_recall", "classes", "threat", "seconds",
        "device", "hardware", "torch_version",
    ]  # fmt: skip


def test_names_describe_a_trial_completely(make_trial):
    trial = make_trial(model="mlp(hidden=[20, 10])", defense="prune(ratio=0.2, scope=global)")
    assert Trial.from_names(trial.names()) == trial
