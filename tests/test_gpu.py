"""Results on a GPU compared with those on the CPU. These tests need a GPU."""

import dataclasses
from pathlib import Path

import pytest
import torch
from running import inside, stored

from leakbench.bench.attacks import Resources
from leakbench.bench.datasets import DATASETS
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.lock_step import train_together
from leakbench.bench.models import MODELS
from leakbench.bench.training import Examples, Recipe, Training
from leakbench.core.process import prepare_worker
from leakbench.defenses import DEFENSES

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.filterwarnings("default"),  # of PyTorch's own, while it compiles
]

DATA = Path("data")
GPU = "cuda:0"
SHORT = [  # so few steps that other last digits have not grown into another picture yet
    "dlg(steps=2, max_iter=5)",
    "dlg(steps=2, max_iter=5, engine=reference)",
    "idlg(steps=2, max_iter=5)",
    "cosine(steps=3)",
    "cosine(optimizer=adam, steps=10)",
    "adaptive(steps=3)",
    "linear",
    "recursive",
    "hybrid(steps=1)",
    "unrolled(steps=3)",
    "defended(steps=6)",
]
WORDS = ["likeliest(rounds=2)", "dlg-text(steps=3)", "rows", "span", "bag"]
TRAINED = [
    "none",
    "gaussian(variance=0.0001)",
    "laplacian(relative=0.1)",
    "bfloat16",
    "int8",
    "prune(ratio=0.5)",
    "prune(ratio=0.5, scope=global)",
    "clip(norm=1.0)",
    "dp_gaussian(noise_multiplier=0.01)",
    "top_k",
    "sign(error_feedback=true)",
    "qsgd(levels=16)",
    "terngrad",
    "random_sparsify(ratio=0.5)",
    "dual_prune",
    "soteria(ratio=0.6)",
    "precode(size=16)",
    "mixup",
    "instahide(k=2)",
    "augment",
    "examples/bottleneck.py:Bottleneck",
]


@pytest.fixture(autouse=True)
def as_workers_do():
    prepare_worker()


def outcome(trials, device, slots=8):
    """{key: result}."""
    conditions = Conditions(Resources(device, slots=slots))
    return {result.row.key: result for result in run_trials(trials, conditions)}


@pytest.mark.parametrize("attack", SHORT)
def test_an_attack_finds_the_same_picture(make_trial, attack):
    model = "mlp(hidden=[32])" if attack == "linear" else "lenet"
    protocol = "fedavg(local_steps=2, lr=0.1)" if attack.startswith("unrolled") else "fedsgd"
    trials = [
        make_trial(attack=attack, defense=each, model=model, protocol=protocol, index=index)
        for each in ("none", "gaussian(variance=0.0001)", "prune(ratio=0.5)")
        for index in range(2)
    ]
    on_cpu, on_gpu = outcome(trials, "cpu"), outcome(trials, GPU)
    for key, there in on_gpu.items():
        here = on_cpu[key]
        assert there.row.status == here.row.status, there.row.reason
        if here.row.objective is not None:  # of what has one
            assert there.row.objective == pytest.approx(here.row.objective, rel=0.05)
        assert there.trace.reconstruction == pytest.approx(here.trace.reconstruction, abs=0.05)
        assert (there.row.device, there.row.hardware) == (GPU, torch.cuda.get_device_name(GPU))


@pytest.mark.parametrize("attack", WORDS)
@pytest.mark.parametrize("task", ["classification", "mlm"])
def test_an_attack_finds_the_same_words(make_trial, attack, task):
    pytest.importorskip("transformers")
    texts = {"dataset": "sotu-sample", "model": f"bert(depth=1, hidden=64, heads=2, task={task})"}
    trials = [make_trial(attack=attack, defense=each, **texts) for each in ("none", "float16")]
    on_cpu, on_gpu = outcome(trials, "cpu"), outcome(trials, GPU)
    for key, there in on_gpu.items():
        here = on_cpu[key]
        assert there.row.status == here.row.status, there.row.reason
        assert there.row.token_accuracy == pytest.approx(here.row.token_accuracy, abs=0.2)


def test_what_no_cuda_graph_can_hold_is_attacked_all_the_same(make_trial, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    trials = [make_trial(index=index, attack="dlg(steps=2, max_iter=5)") for index in range(3)]
    plain = outcome(trials, GPU)
    monkeypatch.setattr("leakbench.bench.attacks.closure.Replayed", fail)
    found = outcome(trials, GPU)
    assert "continuing without: RuntimeError: operation not permitted when stream is capturing" in caplog.text
    for key, result in found.items():
        assert result.trace.objective == plain[key].trace.objective


@pytest.mark.parametrize(
    "attack", ["dlg(steps=4, stop_loss=20)", "cosine(optimizer=adam, steps=20)", "adaptive(steps=20)"]
)
def test_rows_are_bit_for_bit_the_same_in_any_company(make_trial, attack):
    """In batches as wide as each other, also where the last of them is nearly empty."""
    trials = [
        make_trial(index=index, defense=defense, attack=attack)
        for index in range(7)
        for defense in ("none", "gaussian(variance=0.001)", "float16", "prune(ratio=0.3)")
    ]
    plain = outcome(trials, GPU, slots=16)
    turned = outcome(trials[::-1], GPU, slots=16)
    parts = outcome(trials[:9], GPU, slots=16)
    for key, result in plain.items():
        others = [turned[key], *([parts[key]] if key in parts else [])]
        for other in others:
            assert other.trace.objective == result.trace.objective
            assert torch.equal(other.trace.reconstruction, result.trace.reconstruction)


def test_out_of_memory_halves_the_batch(make_trial, caplog):
    """A real refusal of the driver: nearly all of the GPU's memory is taken."""
    trials = [make_trial(index=index, attack="dlg(steps=1, max_iter=5)") for index in range(16)]
    plain = outcome(trials, GPU, slots=8)
    free, whole = torch.cuda.mem_get_info()
    allowed = torch.cuda.memory_reserved() + 100 * 2**20
    torch.cuda.set_per_process_memory_fraction(allowed / whole)
    try:
        found = outcome(trials, GPU, slots=64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with 64 slots; continuing with 32" in caplog.text
    for key, result in plain.items():
        assert found[key].row.match_loss == pytest.approx(result.row.match_loss, rel=0.05)


@pytest.mark.parametrize("defense", TRAINED)
def test_a_training_ends_as_on_the_cpu(defense):
    digits = DATASETS.parse("mnist-5k")
    same(
        Training(
            Examples(digits, tuple(range(800))), Examples(digits, tuple(range(4000, 4500))),
            MODELS.parse("mlp(hidden=[32])"), 0, Recipe(epochs=2, lr=0.1), DEFENSES.parse(defense),
        )
    )  # fmt: skip


@pytest.mark.parametrize("task", ["classification", "mlm"])
def test_a_training_on_texts_ends_as_on_the_cpu(task):
    pytest.importorskip("transformers")
    sentences = DATASETS.parse("sotu-2k")
    same(
        Training(
            Examples(sentences, tuple(range(80))), Examples(sentences, tuple(range(1900, 2000))),
            MODELS.parse(f"bert(depth=1, hidden=64, heads=2, task={task})"), 0,
            Recipe(epochs=2, lr=0.001, optimizer="adam"), DEFENSES.parse("none"),
        )
    )  # fmt: skip


def same(wanted):
    """Train on both, and compare."""
    (here,) = train_together([wanted], DATA, "cpu")
    (there,) = train_together([wanted], DATA, GPU)
    assert dataclasses.replace(there.row, accuracy=None, seconds=0) == dataclasses.replace(
        here.row, accuracy=None, seconds=0, device=GPU, hardware=torch.cuda.get_device_name(GPU)
    )
    assert there.row.accuracy == pytest.approx(here.row.accuracy, abs=0.03)


def test_workers_share_a_gpu(write, tmp_path):
    write(
        "few.yaml",
        "datasets: [{name: cifar10-sample, indices: 0-3}]\n"
        "defenses: [none, float16]\n"
        "attacks: [{name: dlg, steps: 3}, recursive]\n",
    )
    assert inside(tmp_path, "sweep", "few.yaml", "--out", "run", "--jobs", "3") == 0
    rows = stored(tmp_path / "run")
    assert len(rows) == 16
    assert set(rows.status) == {"budget", "converged"}, set(rows.reason)
    assert set(rows.device) == {GPU}


def test_a_sweep_takes_the_gpu_by_itself(write, tmp_path, capsys):
    write(
        "few.yaml",
        "datasets: [{name: cifar10-sample, indices: 0-3}]\n"
        "defenses: [none, float16]\n"
        "attacks: [{name: dlg, steps: 3}]\n",
    )
    assert inside(tmp_path, "sweep", "few.yaml", "--out", "run") == 0
    shown = capsys.readouterr().out
    assert "cuda:0: 1 worker x 1 thread, 8 slots each" in shown
    assert "TF32 off" in shown
    rows = stored(tmp_path / "run")
    assert len(rows) == 8
    assert set(rows.device) == {GPU}
