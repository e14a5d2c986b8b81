"""What an executor is, and the simplest one: all trials in this process."""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

from leakbench.bench.execution import Watcher
from leakbench.bench.hardware import hardware_of
from leakbench.bench.trial import Trial
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.memory import free_for_each
from leakbench.sweeps.records import Record

Moved = Callable[[int], None]  # told how many outer steps were taken
Work = Callable[[Iterator[Trial], str, Watcher], Iterator[Record]]  # (trials as there is room, device, ...)


NO_RESULT = "the attack gave no result for it"


class Executor(Protocol):
    """Something that runs trials and hands back each record as it comes."""

    devices: list[str]  # one entry a worker

    def hardware(self) -> set[str]:
        """What the workers compute on: see `hardware_of`."""
        ...

    def free(self) -> int | None:
        """Bytes that each worker may take for its batch; None where that is not known."""
        ...

    def run(self, work: Work, trials: Iterable[Trial], slots: int, moved: Moved) -> Generator[Record | None]:
        """The records of `work(trials, device, watcher)` for all trials, in any order.

        None stands for a moment without news, so that the caller can do what has to be done now and then.

        Args:
            work: what a worker does with the trials that it is given.
            trials: those that share a batch after one another.
            slots: how many a worker takes on at once.
            moved: told how many outer steps were taken.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; it may have run several times, and runs no more."""
        ...


class Inline:
    """All trials in this process: for debugging, as nothing stands between it and what a trial does."""

    def __init__(self, device: str):
        self.devices = [device]

    def hardware(self) -> set[str]:
        """See `Executor.hardware`."""
        return set(map(hardware_of, self.devices))

    def free(self) -> int | None:
        """See `Executor.free`."""
        return free_for_each(self.devices)

    def run(self, work: Work, trials: Iterable[Trial], slots: int, moved: Moved) -> Generator[Record | None]:
        """See `Executor.run`."""
        prepare_worker()
        yield from work(iter(trials), self.devices[0], Watcher(moved=moved))

    def close(self) -> None:
        """See `Executor.close`: it holds nothing."""
