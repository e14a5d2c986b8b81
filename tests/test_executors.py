"""Where trials run: the same rows from any number of workers."""

import os
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from bench.attacks import Resources
from bench.trial import Result
from defenses.errors import UserError
from sweeps import executors
from sweeps.executors import Inline, Joblib, describe_workers, find_devices, make_executor


def tell(trials, device, moved):
    """Stands for the attack: says where each trial ran."""
    for trial in trials:
        yield Result((trial, device, os.getpid(), torch.get_num_threads()), None)


def die(trials, device, moved):
    for trial in trials:
        if trial == 3:
            os._exit(1)
        yield from tell([trial], device, moved)


def tell_when_both_are_there(trials, device, moved, folder):
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)
    yield from tell(trials, device, moved)


def test_inline_runs_in_this_process_on_one_thread():
    rows = [result.row for result in Inline("cpu").run(tell, range(3), print)]
    assert rows == [(i, "cpu", os.getpid(), 1) for i in range(3)]


def test_joblib_gives_each_worker_a_device_and_one_thread(tmp_path):
    work = partial(tell_when_both_are_there, folder=tmp_path)
    rows = [result.row for result in Joblib(["cpu", "cuda:7"]).run(work, range(1000), print)]
    assert sorted(row[0] for row in rows) == list(range(1000))
    assert os.getpid() not in {row[2] for row in rows}
    assert len({(row[2], row[1]) for row in rows}) <= 2  # a process keeps its device
    assert {row[3] for row in rows} == {1}
    assert len(list(tmp_path.iterdir())) == 2


def step(trials, device, moved):
    for trial in trials:
        moved(trial)
        yield from tell([trial], device, moved)


@pytest.mark.parametrize("executor", [Inline("cpu"), Joblib(["cpu", "cpu"])], ids=["inline", "joblib"])
def test_steps_are_told_of_on_the_way(executor):
    steps = []
    assert len(list(executor.run(step, range(1, 11), steps.append))) == 10
    assert sum(steps) == 55


def test_a_dead_worker_is_a_sentence():
    with pytest.raises(UserError, match="a worker process died .* the same command runs the rest"):
        list(Joblib(["cpu", "cpu"]).run(die, range(6), print))


def test_a_sweep_that_is_left_early_leaves_no_worker_behind():
    results = Joblib(["cpu", "cpu"]).run(tell, range(10_000), print)
    workers = {next(results).row[2] for _ in range(10)}
    results.close()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_one_job_runs_inline_and_more_in_processes(monkeypatch):
    assert isinstance(make_executor(["cpu"], 1), Inline)
    assert make_executor(["cpu"], 3).devices == ["cpu"] * 3
    monkeypatch.setattr(executors, "usable_cores", lambda: 4)
    assert make_executor(["cpu"], None).devices == ["cpu"] * 4
    assert make_executor(["cuda:0", "cuda:1"], None).devices == ["cuda:0", "cuda:1"]
    assert make_executor(["cuda:0", "cuda:1"], 5).devices == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert make_executor(["cuda:0"], None).devices == ["cuda:0"]


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_devices("auto") == ["cuda:0", "cuda:1"]
    assert find_devices("cuda") == ["cuda:0", "cuda:1"]
    assert find_devices("cpu") == ["cpu"]
    assert find_devices("cuda:1, cuda:0") == ["cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_devices("auto") == ["cpu"]


@pytest.mark.parametrize("asked", ["cuda:2", "tpu", "", "cpu,cuda:5", "cuda:0;cuda:1"])
def test_devices_that_are_not_there(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="--device: expected auto or some of cpu, cuda:0, cuda:1, got"):
        find_devices(asked)


def test_what_is_used_is_announced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_workers(Joblib(["cpu"] * 2), Resources(slots=64), "0.18 GiB of 11.00 free") == (
        "cpu: 2 workers x 1 thread, 64 slots each (0.18 GiB of 11.00 free), no GPU found"
    )
    assert describe_workers(Joblib(["cpu"]), Resources(), "") == (
        "cpu: 1 worker x 1 thread, one trial at a time each, no GPU found"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    workers = Joblib(["cuda:0", "cuda:1"])
    assert describe_workers(workers, Resources(slots=8, compiled=True), "0.02 GiB") == (
        "cuda:0: 1 worker x 1 thread; cuda:1: 1 worker x 1 thread, 8 slots each (0.02 GiB),"
        " compiled, TF32 off"
    )


def test_a_worker_computes_in_float32_on_one_thread():
    torch.set_num_threads(2)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    list(Inline("cpu").run(lambda trials, *_: trials, [], print))
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
