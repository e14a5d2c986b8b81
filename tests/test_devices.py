"""Which workers run where, and how it is announced."""

import pytest
import torch

from leakbench.bench.attacks import Resources
from leakbench.bench.hardware import LIMITS, hardware_of
from leakbench.core.errors import UserError
from leakbench.sweeps.executors import devices, make_executor
from leakbench.sweeps.executors.base import Inline
from leakbench.sweeps.executors.devices import describe_workers, find_devices, worker_devices
from leakbench.sweeps.executors.processes import Joblib


def test_one_worker_a_gpu_or_a_core(monkeypatch):
    monkeypatch.setattr(devices, "usable_cores", lambda: 4)
    assert worker_devices(["cpu"], None) == ["cpu"] * 4
    assert worker_devices(["cpu"], 3) == ["cpu"] * 3
    assert worker_devices(["cuda:0"], None) == ["cuda:0"]
    assert worker_devices(["cuda:0", "cuda:1"], None) == ["cuda:0", "cuda:1"]
    assert worker_devices(["cuda:0", "cuda:1"], 3) == ["cuda:0", "cuda:1", "cuda:0"]


def test_executors_by_name():
    assert make_executor("inline", "cpu", None, None, 0).devices == ["cpu"]
    executor = make_executor("joblib", "cpu", 1, None, 7.5)
    assert isinstance(executor, Joblib)
    assert (executor.devices, executor.timeout) == (["cpu"], 7.5)
    with pytest.raises(UserError, match="timeout: expected 0 with --executor inline"):
        make_executor("inline", "cpu", None, None, 7.5)


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert find_devices("auto") == ["cuda:0", "cuda:1", "cuda:2"]
    assert find_devices("cuda") == ["cuda:0", "cuda:1", "cuda:2"]
    assert find_devices("cpu") == ["cpu"]
    assert find_devices("cuda:2, cuda:0") == ["cuda:2", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_devices("auto") == ["cpu"]


@pytest.mark.parametrize("asked", ["cuda:2", "tpu", "", "cpu,cuda:5", "cuda:0;cuda:1"])
def test_devices_that_are_not_there(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="--device: expected auto or some of cpu, cuda:0, cuda:1, got"):
        find_devices(asked)


def test_rows_of_cpu_and_gpu_are_not_mixed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="expected cpu or GPUs, whose last digits differ, got both"):
        find_devices("cpu,cuda:0")


def test_what_is_used_is_announced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert describe_workers(Joblib(["cpu"] * 2), Resources(slots=64), "0.18 GiB of 11.00 free") == (
        "cpu: 2 workers x 1 thread, 64 slots each (0.18 GiB of 11.00 free), no GPU found"
    )
    assert describe_workers(Inline("cpu"), Resources(), "") == (
        "cpu: 1 worker x 1 thread, one trial at a time each, no GPU found"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    workers = Joblib(["cuda:0", "cuda:1"])
    assert describe_workers(workers, Resources(slots=8, compiled=True), "0.02 GiB") == (
        "cuda:0: 1 worker x 1 thread; cuda:1: 1 worker x 1 thread, 8 slots each (0.02 GiB),"
        " compiled, TF32 off"
    )


def test_the_gpu_of_a_worker_elsewhere_is_not_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no GPU found" not in describe_workers(Joblib(["cuda:0"]), Resources(slots=8), "0.02 GiB")


def test_the_hardware_is_the_instruction_set_and_what_limits_a_library(monkeypatch):
    here = torch.backends.cpu.get_cpu_capability()
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert hardware_of("cpu") == here
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")  # as every run has it
    assert hardware_of("cpu") == here
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert hardware_of("cpu") == f"{here} ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=COMPATIBLE"


def test_the_hardware_of_a_gpu_is_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU at {device}")
    assert hardware_of("cuda:1") == "GPU at cuda:1"


def test_an_executor_tells_what_its_workers_compute_on():
    assert Joblib(["cpu", "cpu"]).hardware() == Inline("cpu").hardware() == {hardware_of("cpu")}
