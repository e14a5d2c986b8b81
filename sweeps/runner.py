"""Runs a sweep: its trials through an executor into a store."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.trial import Result, Trial, run_trial
from sweeps.executors import Executor
from sweeps.grid import trials
from sweeps.spec import Sweep
from sweeps.store import Store

SECONDS_BETWEEN_PARTS = 2.0  # at most this much finished work is lost when the machine dies


@dataclass(frozen=True)
class Plan:
    """What a run has to do."""

    pending: list[Trial]
    kept: int  # trials of the sweep that have a row already


def plan(sweep: Sweep, store: Store) -> Plan:
    """The trials of the sweep that have no row in the store yet."""
    done = store.keys()
    everything = list(trials(sweep))
    pending = [trial for trial in everything if trial.key not in done]
    return Plan(pending, len(everything) - len(pending))


def run(
    todo: Plan,
    store: Store,
    executor: Executor,
    data_root: Path,
    snapshot_every: int,
    finished: Callable[[], None],
) -> None:
    """Run the trials and store every row; what is finished stays, however the run ends.

    Args:
        todo: what to run.
        store: where the rows go.
        executor: where the trials run.
        data_root: where data sets lie that do not come with the project.
        snapshot_every: outer steps between two pictures kept of a trial; 0 keeps none.
        finished: called as each trial ends.

    Raises:
        UserError: a worker died.
    """
    work = partial(_work, data_root=data_root, snapshot_every=snapshot_every)
    with _Buffer(store) as buffer:
        for result in executor.run(work, todo.pending):
            buffer.add(result)
            finished()


def _work(trial: Trial, device: str, data_root: Path, snapshot_every: int) -> Result:
    return run_trial(trial, device, data_root, snapshot_every)


class _Buffer:
    """Gathers results for a moment, so that a fast sweep does not write a file a row."""

    def __init__(self, store: Store):
        self.store = store
        self.results: list[Result] = []
        self.written = time.monotonic()

    def __enter__(self) -> "_Buffer":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, result: Result) -> None:
        self.results.append(result)
        if time.monotonic() - self.written >= SECONDS_BETWEEN_PARTS:
            self.flush()

    def flush(self) -> None:
        if self.results:
            self.store.append(self.results)
        self.results = []
        self.written = time.monotonic()
