"""How wide batches are, what memory they take, and when they are compiled."""

from pathlib import Path

import pytest
import torch

from leakbench.bench.attacks.batched import bytes_per_slot
from leakbench.bench.attacks.dlg import DLG
from leakbench.core.errors import UserError
from leakbench.sweeps.executors import memory
from leakbench.sweeps.executors.memory import free_for_each, free_memory
from leakbench.sweeps.grid import trials
from leakbench.sweeps.plan import matching, plan
from leakbench.sweeps.resources import GIB, Memory, choose, examples
from leakbench.sweeps.sweep_file import read_sweep

TEXT = "datasets: [{name: mnist-5k, indices: 0-99}]\ndefenses: [none]\nattacks: [%s]\nrestarts: 10\n"


@pytest.fixture
def sweep(write):
    return lambda attack="dlg(steps=30)": read_sweep(write("mine.yaml", TEXT % f"'{attack}'"))[0]


def chosen(sweep, pending=1000, workers=2, slots=None, free=None):
    keys = [trial.key for trial in trials(sweep)]
    todo = plan(sweep, dict.fromkeys(keys[pending:], "budget"))
    return choose(todo, ["cpu"] * workers, free, slots, Path("data"))


@pytest.mark.parametrize(
    ("pending", "workers", "slots"), [(18, 2, 16), (1, 2, 8), (60, 2, 32), (1000, 2, 64), (100, 1, 64)]
)
def test_a_batch_holds_a_workers_share(sweep, pending, workers, slots):
    assert chosen(sweep(), pending, workers)[0].slots == slots


def test_a_requested_width_is_taken(sweep):
    found, memory = chosen(sweep(), slots=5)
    assert found.slots == 5
    assert memory.needed == 5 * bytes_per_slot(*examples(list(trials(sweep())), Path("data"))[0], "cpu")


@pytest.mark.parametrize(("free", "slots"), [(40.1, 32), (10.1, 8), (9, 7), (0.5, 1), (-3, 1)])
def test_a_batch_fits_into_the_memory_that_is_free(sweep, free, slots):
    """Given in slots, one fifth of which is not counted on."""
    _, memory = chosen(sweep(), slots=1)
    assert chosen(sweep(), free=int(free * memory.needed))[0].slots == slots


def test_a_machine_that_does_not_tell_its_memory_gets_the_usual_width(sweep):
    assert chosen(sweep(), free=None)[0].slots == 64


def test_a_batch_that_fits_nowhere_is_a_line(sweep, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(DLG, "bytes_per_slot", fail)
    with pytest.raises(UserError, match="mine.yaml: expected memory for batches of 8 trials, found"):
        chosen(sweep())


def test_free_memory_is_shared_by_the_workers():
    physical = 1024 * int(Path("/proc/meminfo").read_text().split()[1])
    assert 0 < free_memory("cpu") < physical
    one, two = free_for_each(["cpu"]), free_for_each(["cpu"] * 2)
    assert two < 0.6 * one


def test_a_machine_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _path: False)
    assert free_memory("cpu") is None
    assert free_for_each(["cpu"]) is None


def test_a_name_with_brackets_matches_itself(write):
    text = TEXT % "dlg(steps=1)" + "models: ['mlp(hidden=[20, 10])', lenet]\n"
    jobs = list(trials(read_sweep(write("mine.yaml", text))[0]))
    assert len(matching(jobs, ["mlp(hidden=[20, 10])"])) == len(jobs) // 2
    assert matching(jobs, ["mlp*"]) == matching(jobs, ["mlp(hidden=[20, 10])"])


@pytest.mark.parametrize(("stat", "free"), [("anon 2\ninactive_file 400\n", 700), ("anon 2\n", 300)])
def test_cached_files_are_free_memory(monkeypatch, tmp_path, stat, free):
    for name, text in (("max", "1000"), ("current", "700"), ("stat", stat)):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "LIMITS", tmp_path)
    assert free_memory("cpu") == free


def test_memory_is_announced():
    assert str(Memory(GIB // 4, 8 * GIB)) == "0.25 GiB of 8.00 free"
    assert str(Memory(GIB // 4, None)) == "0.25 GiB"
    assert str(Memory(0, 8 * GIB)) == ""


def test_only_long_sweeps_are_compiled_however_much_of_them_is_left(sweep):
    assert not chosen(sweep("dlg(steps=90)"))[0].compiled  # 1,800,000 iterations
    assert chosen(sweep("dlg(steps=110)"))[0].compiled  # 2,200,000
    assert chosen(sweep("dlg(steps=110)"), pending=1)[0].compiled


def test_the_reference_engine_has_no_batches(sweep):
    found, memory = chosen(sweep("dlg(steps=9999999, engine=reference)"))
    assert not found.compiled
    assert memory.needed == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_free_memory_of_a_gpu():
    assert 0 < free_memory("cuda:0") <= torch.cuda.get_device_properties(0).total_memory
