"""Where trials run: in this process, or in one process a core or GPU."""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import torch
from joblib.externals.loky import get_reusable_executor

from bench.attacks import Resources
from bench.trial import Result, Trial
from defenses.errors import StoppedError, UserError

Moved = Callable[[int], None]  # told how many outer steps were taken
Work = Callable[[Iterator[Trial], str, Moved], Iterator[Result]]  # (trials as there is room, device, ...)

News = Result | int | None  # from a worker: a result, outer steps taken, or that it is done
QUEUED = 256  # trials and results on their way to and from the workers
SECONDS_BETWEEN_LOOKS = 0.5  # at whether the workers are alive


class Executor(Protocol):
    """Something that runs trials and hands back each result as it comes."""

    devices: list[str]  # one entry a worker

    def run(self, work: Work, trials: Iterable[Trial], moved: Moved) -> Iterator[Result]:
        """The results of `work(trials, device, moved)` for all trials, in any order."""
        ...


class Inline:
    """All trials in this process."""

    def __init__(self, device: str):
        self.devices = [device]

    def run(self, work: Work, trials: Iterable[Trial], moved: Moved) -> Iterator[Result]:
        """See `Executor.run`."""
        prepare_worker()
        yield from work(iter(trials), self.devices[0], moved)


class Joblib:
    """One process of joblib's loky for each entry of `devices`; all take trials from one queue."""

    def __init__(self, devices: list[str]):
        self.devices = devices

    def run(self, work: Work, trials: Iterable[Trial], moved: Moved) -> Iterator[Result]:
        """See `Executor.run`.

        Raises:
            StoppedError: a worker died.
        """
        with multiprocessing.Manager() as manager:
            waiting, finished = manager.Queue(QUEUED), manager.Queue(QUEUED)
            workers = get_reusable_executor(len(self.devices), timeout=None, reuse=False)
            jobs = [workers.submit(_serve, work, device, waiting, finished) for device in self.devices]
            feeder = threading.Thread(target=_feed, args=(trials, len(jobs), waiting), daemon=True)
            feeder.start()
            try:
                yield from _collect(finished, jobs, moved)
                feeder.join()
            finally:
                workers.shutdown(kill_workers=True)


def _feed(trials: Iterable[Trial], workers: int, waiting: "queue.Queue[Trial | None]") -> None:
    try:
        for trial in trials:
            waiting.put(trial)
        for _ in range(workers):
            waiting.put(None)
    except (EOFError, OSError):  # the sweep was stopped, and the queue with it
        return


def _serve(
    work: Work, device: str, waiting: "queue.Queue[Trial | None]", finished: "queue.Queue[News]"
) -> None:
    """The life of a worker."""
    prepare_worker()
    for result in work(iter(waiting.get, None), device, finished.put):
        finished.put(result)
    finished.put(None)


def _collect(finished: "queue.Queue[News]", jobs: list[Any], moved: Moved) -> Iterator[Result]:
    """Results until every worker has said that it is done."""
    working = len(jobs)
    while working:
        try:
            news = finished.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            broken = [job.exception() for job in jobs if job.done() and job.exception()]
            if broken:
                died = isinstance(broken[0], BrokenProcessPool)
                what = "process died (out of memory?)" if died else f"failed: {broken[0]!r}"
                text = f"a worker {what}; what is finished is stored: the same command runs the rest"
                raise StoppedError(text) from broken[0]
            continue
        if news is None:
            working -= 1
        elif isinstance(news, int):
            moved(news)
        else:
            yield news


def prepare_worker() -> None:
    """Settings of a worker's process.

    One thread: workers do not fight for cores, and sums come out the same however many there are.
    No TF32, which PyTorch uses in convolutions on a GPU: its ten bits are no float32.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


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


def describe_workers(executor: Executor, resources: Resources, memory: str) -> str:
    """What will be used, in a line: `cpu: 2 workers x 1 thread, 64 slots each (MEMORY), no GPU found`."""
    counts = {device: executor.devices.count(device) for device in executor.devices}
    parts = [f"{device}: {count} worker{'s' * (count > 1)} x 1 thread" for device, count in counts.items()]
    notes = [
        f"{resources.slots} slots each ({memory})" if memory else "one trial at a time each",
        "compiled" if resources.compiled else "",
        "TF32 off" if any(device != "cpu" for device in counts) else "",
        "" if torch.cuda.is_available() else "no GPU found",
    ]
    return ", ".join(["; ".join(parts), *filter(None, notes)])
