"""The batched engine: a trial's row does not depend on what shares its batch."""

import dataclasses

import pytest
import torch

from leakbench.bench.attacks import Case, Resources, Spec
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.datasets import DATASETS
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.models import MODELS

pytestmark = pytest.mark.numeric

DEFENSES = ["none", "gaussian(variance=0.001)", "float16", "prune(ratio=0.3)"]


def rows(trials, slots, compiled=False):
    """{key: row without the time}."""
    results = run_trials(trials, Conditions(Resources(slots=slots, compiled=compiled)))
    return {
        result.row.key: {
            name: value for name, value in dataclasses.asdict(result.row).items() if "seconds" not in name
        }
        for result in results
    }


@pytest.fixture
def trials(make_trial):
    """Twelve trials of several lengths."""
    return [
        make_trial(dataset="mnist-sample", index=index, defense=defense, attack="dlg(steps=3, stop_loss=20)")
        for index in range(3)
        for defense in DEFENSES
    ]


def test_rows_are_bit_for_bit_the_same_in_any_company(trials):
    plain = rows(trials, 16)
    assert len(plain) == 12
    assert {row["status"] for row in plain.values()} >= {"converged", "budget"}
    shuffled = [trials[i] for i in torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    assert rows(shuffled, 16) == plain
    halves = rows(trials[:5], 16) | rows(trials[5:], 16)
    assert halves == plain


def test_slots_are_filled_again(trials):
    few, many = rows(trials, 8), rows(trials, 32)
    assert few.keys() == many.keys() == {trial.key for trial in trials}


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_any_width_runs_every_trial(make_trial, slots):
    trials = [make_trial(index=index, attack="dlg(steps=1)") for index in range(7)]
    found = rows(trials, slots)
    assert len(found) == 7
    assert all(row["status"] == "budget" for row in found.values())


def case(model, dataset, index, number=0):
    images = DATASETS.parse(dataset).open(None)
    image, label = images[index]
    network = MODELS.parse(model).build(images.shape, images.classes, 0)
    spec = Spec(images.shape, images.classes)
    shared = shared_gradient(network, image[None], torch.tensor([label]))
    return Case(number, network, shared, spec, (dataset, index))


def test_a_batch_gets_narrower_when_slots_stay_empty():
    example = case("lenet", "cifar10-sample", 0)
    attack, slots = DLG(steps=2), (3, 17, 30)
    runs = list(Feed(attack, (dataclasses.replace(example, number=slot) for slot in slots)))
    batch = Batch(attack, runs[0], Resources(slots=32))
    for slot, run in zip(slots, runs, strict=True):
        batch.put(slot, run)
    wide = batch.stepper.x[17].clone()
    batch.narrow()
    assert len(batch.best) in (8, 32)  # 32 where the narrow batch would give other bits
    assert {run.case.number for run in batch.live.values()} == {3, 17, 30}
    for slot in batch.live:
        assert torch.equal(batch.stepper.x[slot], wide)
    done = []
    while batch.live:
        done += batch.step(lambda *_: None).values()
    assert sorted(run.case.number for run in done) == [3, 17, 30]
    first, second, third = (run.found(attack) for run in done)
    assert first.history == second.history == third.history


def test_narrowing_changes_no_bit(make_trial):
    """Four trials of other lengths in 32 slots: the batch is narrowed on the way."""
    trials = [
        make_trial(dataset="mnist-sample", index=index, attack="dlg(steps=2, stop_loss=10)", defense=defense)
        for index in range(2)
        for defense in ("none", "gaussian(std=0.1)")
    ]
    assert rows(trials, 32) == {key: row for trial in trials for key, row in rows([trial], 32).items()}


def test_victims_with_other_weights_share_a_batch(make_trial):
    trials = [make_trial(model_seed=seed, attack="dlg(steps=1, max_iter=5)") for seed in range(4)]
    together = rows(trials, 8)
    assert len({row["match_loss"] for row in together.values()}) == 4
    reference = [
        make_trial(model_seed=seed, attack="dlg(steps=1, max_iter=5, engine=reference)") for seed in range(4)
    ]
    expected = [row["match_loss"] for row in rows(reference, 1).values()]
    assert [row["match_loss"] for row in together.values()] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        ("lenet", "cifar10-sample"),
        ("lenet(activation=tanh)", "mnist-sample"),
        ("lenet(activation=relu, weights=default)", "lfw-subset"),
        ("mlp(hidden=[30, 20])", "fashion-mnist-sample"),
    ],
)
@pytest.mark.parametrize("parameterisation", ["raw", "sigmoid"])
def test_both_engines_agree_row_by_row(make_trial, model, dataset, parameterisation):
    """A few iterations in float32; float64 is compared in test_dlg.py."""
    settings = f"steps=1, max_iter=5, parameterisation={parameterisation}"
    for index in range(2):
        batched, reference = (
            make_trial(model=model, dataset=dataset, index=index, attack=f"dlg({settings}, engine={engine})")
            for engine in ("batched", "reference")
        )
        (found,), (expected,) = rows([batched], 8).values(), rows([reference], 1).values()
        for name in ("status", "iterations", "label_recovered"):
            assert found[name] == expected[name]
        assert found["match_loss"] == pytest.approx(expected["match_loss"], rel=1e-3)


def test_sigmoid_pixels_stay_in_range_and_uniform_starts_too(make_trial):
    (through,) = run_trials(
        [make_trial(attack="dlg(steps=3, parameterisation=sigmoid)")], Conditions(snapshot_every=1)
    )
    pictures = torch.stack(list(through.trace.snapshots.values()))
    assert 0 <= float(pictures.min()) < float(pictures.max()) <= 1
    (uniform,) = run_trials([make_trial(attack="dlg(steps=1, init=uniform)")], Conditions(snapshot_every=1))
    start = uniform.trace.snapshots[0]
    assert 0 <= float(start.min()) < 0.01
    assert 0.99 < float(start.max()) <= 1


def test_a_batch_that_fails_costs_its_own_trials_only(make_trial, write):
    """A model that raises in the batch: its trials are rows, and the next model's run."""
    path = write(
        "net.py",
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self): super().__init__(3072, 10)\n"
        "    def forward(self, x):\n"
        "        if float(x.sum()) > 1e9: return x\n"  # data-dependent: torch.func refuses it
        "        return super().forward(x.flatten(1))\n",
    )
    broken = [make_trial(model=f"{path}:Net", index=index) for index in range(3)]
    whole = [make_trial(index=index) for index in range(2)]
    found = rows(broken + whole, 8)
    assert [row["status"] for row in found.values()] == ["error"] * 3 + ["budget"] * 2
    assert all("vmap" in found[trial.key]["reason"] for trial in broken)


@pytest.mark.long
@pytest.mark.filterwarnings("default")  # of PyTorch's own, while it compiles
def test_a_compiled_batch_gives_the_same_picture(make_trial):
    trials = [make_trial(index=index, attack="dlg(steps=1, max_iter=2)") for index in range(8)]
    plain, compiled = rows(trials, 8), rows(trials, 8, compiled=True)
    for key, row in plain.items():
        assert compiled[key]["match_loss"] == pytest.approx(row["match_loss"], rel=1e-3)


def test_without_a_compiler_the_batch_runs_all_the_same(make_trial, monkeypatch, caplog):
    def no_compiler(*_args, **_options):
        def fail(*_):
            raise RuntimeError("InvalidCxxCompiler: none found\nmore")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    trials = [make_trial(index=index) for index in range(2)]
    assert rows(trials, 8, compiled=True) == rows(trials, 8)
    assert "continuing without: RuntimeError: InvalidCxxCompiler: none found" in caplog.text
