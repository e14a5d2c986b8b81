"""Where trials run: the same rows from any number of workers."""

import os
import time
from functools import partial

import pytest
import torch

from bench.trial import Result
from defenses.errors import UserError
from sweeps import executors
from sweeps.executors import Inline, Joblib, describe_workers, find_devices, make_executor


def tell(trial, device):
    """Stands for a trial: says where it ran."""
    return Result((trial, device, os.getpid(), torch.get_num_threads()), None)


def die(trial, device):
    if trial == 3:
        os._exit(1)
    return tell(trial, device)


def test_inline_runs_in_this_process_on_one_thread():
    rows = [result.row for result in Inline("cpu").run(tell, range(3))]
    assert rows == [(i, "cpu", os.getpid(), 1) for i in range(3)]


def tell_when_both_are_there(trial, device, folder):
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)
    return tell(trial, device)


def test_joblib_gives_each_worker_a_device_and_one_thread(tmp_path):
    work = partial(tell_when_both_are_there, folder=tmp_path)
    rows = [result.row for result in Joblib(["cpu", "cuda:7"]).run(work, range(10))]
    assert sorted(row[0] for row in rows) == list(range(10))
    assert os.getpid() not in {row[2] for row in rows}
    assert len({(row[2], row[1]) for row in rows}) == 2  # a process keeps its device
    assert {row[1] for row in rows} == {"cpu", "cuda:7"}
    assert {row[3] for row in rows} == {1}


def test_a_dead_worker_is_a_sentence():
    with pytest.raises(UserError, match="a worker process died .* the same command runs the rest"):
        list(Joblib(["cpu", "cpu"]).run(die, range(6)))


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
    assert describe_workers(Joblib(["cpu"] * 2)) == "cpu: 2 workers x 1 thread (no GPU found)"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert describe_workers(Joblib(["cuda:0", "cuda:1"])) == (
        "cuda:0: 1 worker x 1 thread; cuda:1: 1 worker x 1 thread"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_trial_on_a_gpu_agrees_with_the_cpu(make_trial):
    from pathlib import Path

    from bench.trial import run_trial

    cpu, gpu = (run_trial(make_trial(), device, Path("data"), 1) for device in ("cpu", "cuda:0"))
    assert gpu.row.status == cpu.row.status
    assert gpu.row.match_loss == pytest.approx(cpu.row.match_loss, rel=0.05)
    assert torch.equal(gpu.trace.snapshots[0], cpu.trace.snapshots[0])
