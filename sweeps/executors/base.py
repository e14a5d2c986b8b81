"""What an executor is, and the simplest one: all jobs in this process."""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import groupby
from typing import Any, Protocol

from leakbench.bench.execution import Watcher
from leakbench.bench.hardware import hardware_of
from leakbench.bench.job import Job
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.memory import free_for_each
from leakbench.sweeps.records import Record

Moved = Callable[[int], None]  # told how many outer steps were taken
Work = Callable[[Iterator[Any], str, Watcher], Iterator[Record]]  # (jobs as there is room, device, ...)


NO_RESULT = "its worker gave no result for it"


class Executor(Protocol):
    """Something that runs jobs and hands back each record as it comes."""

    devices: list[str]  # one entry a worker

    def hardware(self) -> set[str]:
        """What the workers compute on: see `hardware_of`."""
        ...

    def free(self) -> int | None:
        """Bytes that each worker may take for its batch; None where that is not known."""
        ...

    def run(self, work: Work, jobs: Iterable[Job], bundle: int, moved: Moved) -> Generator[Record | None]:
        """The records of `work(jobs, device, watcher)` for all jobs, in any order.

        None stands for a moment without news, so that the caller can do what has to be done now and then.

        Args:
            work: what a worker does with the jobs that it is given, all of one group.
            jobs: those of a group after one another.
            bundle: how many are sent at once to a worker that cannot ask for the next.
            moved: told how many outer steps were taken.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; it may have run several times, and runs no more."""
        ...


class Inline:
    """All jobs in this process: for debugging, as nothing stands between it and what a job does."""

    def __init__(self, device: str):
        self.devices = [device]

    def hardware(self) -> set[str]:
        """See `Executor.hardware`."""
        return set(map(hardware_of, self.devices))

    def free(self) -> int | None:
        """See `Executor.free`."""
        return free_for_each(self.devices)

    def run(self, work: Work, jobs: Iterable[Job], bundle: int, moved: Moved) -> Generator[Record | None]:
        """See `Executor.run`."""
        prepare_worker()
        for _, group in groupby(jobs, key=lambda job: job.group):
            yield from work(group, self.devices[0], Watcher(moved=moved))

    def close(self) -> None:
        """See `Executor.close`: it holds nothing."""
