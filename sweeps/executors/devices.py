"""Which workers run on which devices."""

import os

import torch

from leakbench.bench.attacks import Resources
from leakbench.core.errors import UserError
from leakbench.sweeps.executors.base import Executor


def worker_devices(devices: list[str], jobs: int | None) -> list[str]:
    """The device of each worker: `jobs` workers over the devices in turn, or as many as fit.

    Without `jobs`: one worker per GPU, or one per core.
    """
    if jobs is None:
        jobs = len(devices) if devices != ["cpu"] else usable_cores()
    return [devices[worker % len(devices)] for worker in range(jobs)]


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_devices(asked: str) -> list[str]:
    """The devices that `auto`, `cpu` or `cuda:0,cuda:2` stands for.

    Raises:
        UserError: a device that is not there, or CPU and GPU together: their rows differ.
    """
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if asked == "auto":
        return gpus or ["cpu"]
    if asked == "cuda" and gpus:
        return gpus
    devices = [device.strip() for device in asked.split(",")]
    known = ["cpu", *gpus]
    for device in devices:
        if device not in known:
            raise UserError(f"--device: expected auto or some of {', '.join(known)}, got {device!r}")
    if "cpu" in devices and set(devices) != {"cpu"}:
        raise UserError(f"--device: expected cpu or GPUs, whose last digits differ, got both: {asked!r}")
    return list(dict.fromkeys(devices))


def describe_workers(executor: Executor, resources: Resources, memory: str) -> str:
    """What will be used, in a line: `cpu: 2 workers x 1 thread, 64 slots each (MEMORY), no GPU found`."""
    notes = [
        f"{resources.slots} slots each ({memory})" if memory else "one trial at a time each",
        "compiled" if resources.compiled else "",
        "TF32 off" if any(device != "cpu" for device in executor.devices) else "",
        "no GPU found" if set(executor.devices) == {"cpu"} and not torch.cuda.is_available() else "",
    ]
    return ", ".join([describe_devices(executor.devices), *filter(None, notes)])


def describe_devices(devices: list[str]) -> str:
    """How many workers, and where: `cpu: 2 workers x 1 thread`."""
    counts = {device: devices.count(device) for device in devices}
    parts = [f"{device}: {count} worker{'s' * (count > 1)} x 1 thread" for device, count in counts.items()]
    return "; ".join(parts)
