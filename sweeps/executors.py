"""Where trials run: in this process, or in one process a core or GPU."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import joblib
import torch

from bench.trial import Result, Trial
from defenses.errors import UserError

Work = Callable[[Trial, str], Result]  # (trial, device)


class Executor(Protocol):
    """Something that runs trials and hands back each result as it comes."""

    devices: list[str]  # one entry a worker

    def run(self, work: Work, trials: Iterable[Trial]) -> Iterator[Result]:
        """The results of `work(trial, device)` for all trials, in any order."""
        ...


class Inline:
    """One trial after the other in this process."""

    def __init__(self, device: str):
        self.devices = [device]

    def run(self, work: Work, trials: Iterable[Trial]) -> Iterator[Result]:
        """See `Executor.run`."""
        use_one_thread()
        for trial in trials:
            yield work(trial, self.devices[0])


class Joblib:
    """One process of joblib's loky backend for each entry of `devices`."""

    def __init__(self, devices: list[str]):
        self.devices = devices

    def run(self, work: Work, trials: Iterable[Trial]) -> Iterator[Result]:
        """See `Executor.run`.

        Raises:
            UserError: a worker died.
        """
        with multiprocessing.Manager() as manager:
            free = manager.Queue()
            for device in self.devices:
                free.put(device)
            with joblib.parallel_config("loky", initializer=_start_worker, initargs=(free,)):
                parallel = joblib.Parallel(
                    n_jobs=len(self.devices), return_as="generator_unordered", batch_size=1
                )
                try:
                    yield from parallel(joblib.delayed(_in_worker)(work, trial) for trial in trials)
                except joblib.externals.loky.process_executor.TerminatedWorkerError as error:
                    text = "a worker process died (out of memory?); what is finished is stored"
                    raise UserError(f"{text}: the same command runs the rest") from error


_worker_device = "cpu"


def _start_worker(free: "multiprocessing.Queue[str]") -> None:
    global _worker_device
    _worker_device = free.get()
    use_one_thread()


def _in_worker(work: Work, trial: Trial) -> Result:
    return work(trial, _worker_device)


def use_one_thread() -> None:
    """One thread a worker: they do not fight for cores, and sums come out the same however many."""
    torch.set_num_threads(1)


def make_executor(devices: list[str], jobs: int | None) -> Executor:
    """The executor for these devices: `jobs` workers over them in turn, or as many as fit.

    Without `jobs`: one worker a GPU, or one a core.
    """
    if jobs is None:
        jobs = len(devices) if devices != ["cpu"] else usable_cores()
    if jobs == 1:
        return Inline(devices[0])
    return Joblib([devices[worker % len(devices)] for worker in range(jobs)])


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_devices(asked: str) -> list[str]:
    """The devices that `auto`, `cpu` or `cuda:0,cuda:2` stands for.

    Raises:
        UserError: a device that is not there.
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
    return list(dict.fromkeys(devices))


def describe_workers(executor: Executor) -> str:
    """What will be used, in a line: `cpu: 2 workers x 1 thread (no GPU found)`."""
    counts = {device: executor.devices.count(device) for device in executor.devices}
    parts = [f"{device}: {count} worker{'s' * (count > 1)} x 1 thread" for device, count in counts.items()]
    return "; ".join(parts) + ("" if torch.cuda.is_available() else " (no GPU found)")
