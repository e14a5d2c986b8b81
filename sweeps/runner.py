"""Runs what a plan asks for: its jobs through an executor into a store."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from leakbench.bench.execution import Conditions, Watcher, run_trials
from leakbench.bench.trial import Trial
from leakbench.core.errors import RUNS_THE_REST, StoppedError
from leakbench.core.interrupts import uninterrupted
from leakbench.sweeps.executors.base import Executor, Work
from leakbench.sweeps.progress import Progress
from leakbench.sweeps.records import Record, to_record
from leakbench.sweeps.store import Store
from leakbench.sweeps.todo import Todo

SECONDS_BETWEEN_PARTS = 2.0  # finished work waits no longer to be written
LARGEST_PART = 500  # records; more are not held in memory
ROUNDS = 4  # a bundle has so many trials per slot: the last batch of each is not full


def attack(
    trials: Iterator[Trial], device: str, watcher: Watcher, conditions: Conditions
) -> Iterator[Record]:
    """At a worker: the records of trials, on its own device."""
    resources = replace(conditions.resources, device=device)
    return map(to_record, run_trials(trials, replace(conditions, resources=resources), watcher))


def run(todo: Todo, work: Work, bundle: int, store: Store, executor: Executor, progress: Progress) -> None:
    """Run the jobs and store every row; what is finished stays, however the run ends.

    Args:
        todo: what to run.
        work: what is done with the jobs at a worker.
        bundle: see `Executor.run`.
        store: where the rows go; its lock is held.
        executor: where the jobs run.
        progress: told of outer steps taken and of jobs that ended.

    Raises:
        StoppedError: no worker can start, or the rows cannot be written.
    """
    missing = len(todo)
    running = executor.run(work, todo, bundle, progress.moved)
    with _Buffer(store) as buffer, closing(running) as records:
        for record in records:
            if record is not None:
                buffer.records.append(record)
                progress.ended(record.row)
                missing -= 1
            buffer.flush_in_time()
    if missing > 0:
        text = f"{missing} jobs came back without a row: expected one for each"
        raise StoppedError(f"{text}; {RUNS_THE_REST}")


class _Buffer:
    """Gathers records for a moment, so that a fast sweep does not write a file for each row."""

    def __init__(self, store: Store):
        self.store = store
        self.records: list[Record] = []
        self.flushed = time.monotonic()

    def __enter__(self) -> "_Buffer":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def flush_in_time(self) -> None:
        waited = time.monotonic() - self.flushed
        due = waited >= SECONDS_BETWEEN_PARTS or len(self.records) >= LARGEST_PART
        if due and self._flush():
            self.store.merge()

    def _flush(self) -> bool:
        """Write what has come; whether there was anything."""
        with uninterrupted():
            records, self.records = self.records, []
            if records:
                self.store.append(records)
        self.flushed = time.monotonic()
        return bool(records)
