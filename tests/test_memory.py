"""The memory of a batch: never more than predicted, and half the batch if there is not enough."""

import itertools
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from leakbench.bench.attacks import Resources, batched
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import prepare

ROOT = Path(__file__).parent.parent
DEEP = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))])
        self.last = nn.Linear(8, 10)
    def forward(self, x):
        for each in self.convolutions:
            x = torch.sigmoid(each(x))
        return self.last(x.mean((2, 3)))
"""  # noqa: E501

MEASURE = """
import ctypes, gc, itertools, sys
from pathlib import Path
import torch
from leakbench.bench.attacks import Resources
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.trial import Trial, prepare

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))

torch.set_num_threads(1)
slots = int(sys.argv[2])
trial = Trial.from_names(dict(dataset="cifar10-sample", index=0, model=sys.argv[1], model_seed=0,
                              attack="dlg(stop_loss=0)", defense="none", start=0))
case = prepare(trial, 0, Path("data"))[0]
predicted = slots * trial.attack.bytes_per_slot(case)
gc.collect()  # what the prediction took is given back before the measurement begins
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS")
runs = list(Feed(trial.attack, itertools.repeat(case, slots)))
batch = Batch(trial.attack, runs[0], Resources(slots=slots))
for slot, run in enumerate(runs):
    batch.put(slot, run)
for _ in range(20):
    batch.step(lambda *_: None)
print(predicted, status("VmHWM") - before)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "slots"),
    [
        ("mlp(hidden=[256])", 16),
        ("lenet", 64),
        ("net.py:Net", 32),
    ],
)
def test_the_prediction_is_within_a_fifth_of_the_measured_peak(write, tmp_path, model, slots):
    """Of weights that outweigh the rest, of a history that does, and of layers that do."""
    write("net.py", DEEP)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, model, str(slots)],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    predicted, measured = map(int, done.stdout.split())
    assert predicted == pytest.approx(measured, rel=0.2)


TIGHT = """
import resource, sys
from pathlib import Path
import torch
from leakbench.bench.attacks import Resources
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import Trial

torch.set_num_threads(1)
def run(slots):
    trials = [Trial.from_names(dict(dataset="cifar10-sample", index=index, model="lenet", model_seed=0,
                                    attack="dlg(steps=2)", defense=defense, start=0))
              for index in range(16) for defense in ("none", "float16", "int8", "prune(ratio=0.1)")]
    return {result.row.key: (result.row.status, result.row.match_loss, len(result.trace.errors))
            for result in run_trials(trials, Conditions(Resources(slots=slots)))}

plain = run(16)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 120 * 2**20,) * 2)  # 64 slots take 180 MiB
assert run(64) == plain
print(len(plain))
"""


@pytest.mark.long
def test_out_of_memory_halves_the_batch_and_loses_nothing():
    done = subprocess.run(
        [sys.executable, "-c", TIGHT], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "64"
    assert "out of memory with 64 slots; continuing with 32" in done.stderr


def test_out_of_memory_on_the_way_starts_the_unfinished_again(make_trial, monkeypatch, caplog):
    trials = [make_trial(index=index, attack="dlg(steps=3)") for index in range(20)]
    expected = {result.row.key: result for result in run_trials(trials, Conditions(Resources(slots=8)))}
    step, calls = Batch.step, []

    def step_with_a_full_gpu(batch, observe):
        calls.append(batch)
        if len(calls) == 90:  # the first sixteen are done, the last four under way
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(batch, observe)

    monkeypatch.setattr(Batch, "step", step_with_a_full_gpu)
    found = list(run_trials(trials, Conditions(Resources(slots=16))))
    assert "out of memory with 16 slots; continuing with 8" in caplog.text
    assert len(found) == 20
    for result in found:
        assert result.row.match_loss == expected[result.row.key].row.match_loss
        assert result.trace.errors == expected[result.row.key].trace.errors


def test_one_slot_too_many_is_an_error_row(make_trial, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Batch, "step", full)
    (result,) = run_trials([make_trial()], Conditions(Resources(slots=1)))
    assert result.row.status == "error"
    assert "CUDA out of memory" in result.row.reason


def test_other_errors_are_not_taken_for_it():
    assert not batched.is_out_of_memory(RuntimeError("vmap: no"))
    assert batched.is_out_of_memory(MemoryError())


@pytest.mark.long
def test_memory_stays_flat_over_ten_thousand_trials(make_trial):
    names = {"model": "mlp(hidden=[4])", "attack": "dlg(steps=1, max_iter=1)"}
    trial = make_trial(dataset="mnist-sample", **names)
    trials = (replace(trial, index=index, start=start) for start in range(500) for index in range(20))
    peaks = []
    for count, _ in enumerate(run_trials(trials, Conditions(Resources(slots=32))), start=1):
        if count in (2_000, 10_000):
            peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert count == 10_000
    assert peaks[1] - peaks[0] < 10 * 2**20  # a kept image alone would be 25 MB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_prediction_holds_on_a_gpu(make_trial):
    trial = make_trial()
    case = prepare(trial, 0, Path("data"))[0]
    predicted = 256 * trial.attack.bytes_per_slot(case, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runs = list(Feed(trial.attack, itertools.repeat(case, 256)))
    batch = Batch(trial.attack, runs[0], Resources("cuda:0", slots=256))
    for slot, run in enumerate(runs):
        batch.put(slot, run)
    for _ in range(20):
        batch.step(lambda *_: None)
    assert predicted == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.2)


TEXTS = """
import sys
from pathlib import Path
import torch
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import Trial
from leakbench.sweeps.resources import one_by_one_bytes

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))

def trial(model, attack="bag", count=1, index=0):
    return Trial.from_names(dict(dataset="sotu-sample", index=index, model=model, model_seed=0, attack=attack,
                                 defense="none", start=0, protocol=f"fedsgd(batch_size={count})"))

torch.set_num_threads(1)
predicted = one_by_one_bytes(trial(sys.argv[1], count=int(sys.argv[3])), Path("data"))
list(run_trials([trial("bert(depth=1, hidden=8, heads=1)")], Conditions()))  # what is loaded once
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
before = status("VmRSS")
several = [trial(*sys.argv[1:3], int(sys.argv[3]), index) for index in range(int(sys.argv[4]))]
assert not [each.row.reason for each in run_trials(several, Conditions()) if each.row.status == "error"]
print(predicted, status("VmHWM") - before)
"""


@pytest.mark.parametrize(
    ("model", "attack", "count", "trials"),
    [
        pytest.param("bert", "likeliest(rounds=1)", 1, 3, marks=pytest.mark.long),
        ("bert", "bag", 1, 7),  # the gradients of all would be more
        pytest.param("bert", "span", 4, 7, marks=pytest.mark.long),
        pytest.param("bert(task=mlm)", "rows", 1, 7, marks=pytest.mark.long),
        pytest.param("bert(task=mlm)", "dlg-text(steps=2)", 4, 7, marks=pytest.mark.long),
    ],
)
def test_what_trials_on_texts_take_is_predicted_within_a_factor_of_two(model, attack, count, trials):
    command = [sys.executable, "-c", TEXTS, model, attack, str(count), str(trials)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    predicted, measured = map(int, found.splitlines()[-1].split())
    assert measured <= predicted <= 2 * measured
