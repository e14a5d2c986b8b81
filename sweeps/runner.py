"""Runs a sweep: its trials through an executor into a store."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from bench.trial import Conditions, Result, Trial, group_of, run_trials
from sweeps.executors import Executor
from sweeps.grid import trials
from sweeps.progress import Progress
from sweeps.spec import Sweep
from sweeps.store import Store

SECONDS_BETWEEN_PARTS = 2.0  # finished work waits no longer to be written


@dataclass(frozen=True)
class Plan:
    """What a run has to do."""

    pending: list[Trial]
    kept: int  # trials of the sweep that have a row already


def plan(sweep: Sweep, store: Store) -> Plan:
    """The trials of the sweep that have no row in the store yet, those that share a batch together."""
    done = store.keys()
    everything = list(trials(sweep))
    pending = sorted((trial for trial in everything if trial.key not in done), key=group_of)
    return Plan(pending, len(everything) - len(pending))


def run(
    todo: Plan,
    store: Store,
    executor: Executor,
    conditions: Conditions,
    progress: Progress,
) -> None:
    """Run the trials and store every row; what is finished stays, however the run ends.

    Args:
        todo: what to run.
        store: where the rows go.
        executor: where the trials run.
        conditions: what they run under; each worker has a device of its own.
        progress: told of outer steps taken and of trials that ended.

    Raises:
        StoppedError: a worker died.
        UserError: another process is running a sweep in the same folder.
    """
    work = partial(_work, conditions=conditions)
    with store.lock(), _Buffer(store) as buffer:
        for result in executor.run(work, todo.pending, progress.moved):
            buffer.add(result)
            progress.ended()


def _work(
    trials: Iterator[Trial], device: str, moved: Callable[[int], None], conditions: Conditions
) -> Iterator[Result]:
    resources = replace(conditions.resources, device=device)
    return run_trials(trials, replace(conditions, resources=resources), moved)


class _Buffer:
    """Gathers results for a moment, so that a fast sweep does not write a file a row."""

    def __init__(self, store: Store):
        self.store = store
        self.results: list[Result] = []
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def __enter__(self) -> "_Buffer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self._flush()

    def add(self, result: Result) -> None:
        with self.lock:
            self.results.append(result)
            if self.timer is None:
                self.timer = threading.Timer(SECONDS_BETWEEN_PARTS, self._flush)
                self.timer.daemon = True
                self.timer.start()

    def _flush(self) -> None:
        with self.lock:
            if self.results:
                self.store.append(self.results)
            self.results, self.timer = [], None
