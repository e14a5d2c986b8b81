"""The life of a worker's process: it asks for jobs, and tells what becomes of them.

It sends pairs (kind, news):
    next        it has room for a job; the answer is (key, kind, names), or None where its group has no more
    preparing   key of the job whose own part begins, or None where that is over
    taken       key of a job that is made, and waits
    moved       outer steps taken
    done        the record of a job
    refused     a Refusal
    failed      why the work broke off, other than for a job
    idle        the stream of jobs has ended; the answer is the work to do with the next one
"""

import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from leakbench.bench.execution import Watcher
from leakbench.bench.job import Job
from leakbench.core.errors import one_line
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.base import Work


class Refusal(NamedTuple):
    """A job that cannot be made here, and why."""

    key: str
    reason: str


def make_job(key: str, kind: type[Job], names: dict[str, Any]) -> Job | Refusal:
    """The job of these names, if it is still the one of that key."""
    try:
        with foreign(SystemExit):
            job = kind.from_names(names)
            changed = job.key != key
    except ForeignError as error:
        return Refusal(key, str(error))
    return Refusal(key, "a file that it names was changed while the sweep ran") if changed else job


def serve(device: str, runner: Connection, lifeline: Connection) -> None:
    """Do what the runner gives, until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the runner ends this one
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    prepare_worker()
    watcher = Watcher(
        preparing=lambda job: runner.send(("preparing", job and job.key)),
        moved=lambda steps: runner.send(("moved", steps)),
    )
    try:
        while True:
            _work_off(runner.recv(), device, runner, watcher)
    except (EOFError, ConnectionError, KeyboardInterrupt):  # the runner is gone; or a user's code raised it
        os._exit(1)


def _work_off(work: Work, device: str, runner: Connection, watcher: Watcher) -> None:
    """One stream of jobs."""
    try:
        for record in work(_jobs(runner), device, watcher):
            runner.send(("done", record))
    except (EOFError, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001  # no job's, those are rows: the runner has to hear of it
        runner.send(("failed", one_line(error)))
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # before the next run it is asked how much is free
    runner.send(("idle", None))


def _jobs(runner: Connection) -> Iterator[Job]:
    while True:
        runner.send(("next", None))
        answer = runner.recv()
        if answer is None:
            return
        key, kind, names = answer
        runner.send(("preparing", key))  # a user's file may end or stop this process on import
        job = make_job(key, kind, names)
        runner.send(("taken", key))
        if isinstance(job, Refusal):
            runner.send(("refused", job))
        else:
            yield job


def _end_with(lifeline: Connection) -> None:
    """End this process when the runner is gone, even in the middle of a job that hangs."""
    try:
        lifeline.recv()
    finally:
        os._exit(1)
