"""One process per core or GPU on this machine; whatever becomes of one, the sweep goes on."""

import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from typing import Any

from joblib.externals.loky.backend.context import get_context
from joblib.externals.loky.backend.reduction import dumps

from leakbench.bench.hardware import hardware_of
from leakbench.bench.job import Job
from leakbench.core.errors import RUNS_THE_REST, StoppedError
from leakbench.core.interrupts import start_quietly, uninterrupted
from leakbench.core.words import in_words
from leakbench.sweeps.executors.base import NO_RESULT, Moved, Work
from leakbench.sweeps.executors.memory import free_for_each
from leakbench.sweeps.executors.suspects import Suspects
from leakbench.sweeps.executors.worker import serve
from leakbench.sweeps.records import Record, failed_record

SECONDS_BETWEEN_LOOKS = 0.5  # where no worker has news
SECONDS_TO_END = 10.0  # for a process that no longer answers, before it is killed
MOST_STILLBORN = 3  # workers in a row that end before their first job


@dataclass
class _Worker:
    """A process, as it is known here."""

    device: str
    process: Any = None  # None before its start and after its end
    connection: Any = None
    lifeline: Any = None  # closed with this process, which tells the other one
    idle: bool = True
    bundle: deque[Job] | None = None  # what alone it is given; None where that is the common queue
    group: tuple[str, ...] | None = None  # of the jobs that it is given of that queue; None before the first
    held: dict[str, Job] = field(default_factory=dict)  # {key: job} that it took and has no result of
    since: dict[str, float] = field(default_factory=dict)  # {key: when it began with it}
    preparing: str | None = None  # the key of the job whose own part is being done

    def overdue(self, limit: float) -> list[Job]:
        """The jobs that have used up their time; while one is prepared, all others wait for it."""
        clocks = [self.preparing] if self.preparing else list(self.since)
        return [self.held[key] for key in clocks if time.monotonic() - self.since[key] > limit]

    def suspects(self) -> tuple[list[Job], str]:
        """The jobs that may be the reason of its death, and what was done with them."""
        if self.preparing:
            return [self.held[self.preparing]], "preparing"
        return [self.held[key] for key in self.since], "running"

    def bury(self) -> tuple[str, list[Job]]:
        """Forget a process that is to end: how it ended, and what it was alone to be given."""
        self.process.join(SECONDS_TO_END)
        kill(self.process)
        self.process.join()
        how, bundle = how_it_ended(self.process.exitcode), list(self.bundle or [])
        self.connection.close()
        self.lifeline.close()
        self.process, self.bundle, self.idle, self.preparing = None, None, True, None
        self.held.clear()
        self.since.clear()
        return how, bundle


class Joblib:
    """A process of joblib's loky for each entry of `devices`; all take jobs from one queue.

    A worker that dies is replaced, and what it had is run again: the jobs that may have been the
    reason apart from the others, until the one is found. Workers wait for the next run, if there is one.

    Args:
        devices: of each worker, such as `cpu` or `cuda:0`.
        timeout: seconds after which a job without a result is an error; 0: no limit.
    """

    def __init__(self, devices: list[str], timeout: float = 0):
        self.devices = devices
        self.timeout = timeout
        self.workers = [_Worker(device) for device in devices]

    def hardware(self) -> set[str]:
        """See `Executor.hardware`."""
        return set(map(hardware_of, self.devices))

    def free(self) -> int | None:
        """See `Executor.free`."""
        return free_for_each(self.devices)

    def run(self, work: Work, jobs: Iterable[Job], bundle: int, moved: Moved) -> Generator[Record | None]:
        """See `Executor.run`.

        Raises:
            StoppedError: workers cannot start at all.
        """
        try:
            yield from _Pool(work, iter(jobs), moved, self).records()
        finally:
            self._end([worker for worker in self.workers if not worker.idle])  # the run was left early

    def close(self) -> None:
        """See `Executor.close`: its workers end."""
        self._end(self.workers)

    def _end(self, workers: list[_Worker]) -> None:
        """Whatever they do."""
        running = [worker for worker in workers if worker.process]
        for worker in running:
            kill(worker.process)
        for worker in running:
            worker.bury()


class _Pool:
    """The workers of one run, and the jobs that are not done."""

    def __init__(self, work: Work, jobs: Iterator[Job], moved: Moved, settings: Joblib):
        self.work = dumps(work)  # also where it is a notebook's or a script's own
        self.moved, self.timeout = moved, settings.timeout
        self.workers = settings.workers
        self.fresh = jobs
        self.ahead = next(jobs, None)  # of them: None where all were given out
        self.bundles: deque[deque[Job]] = deque()  # to be run again, each without other company
        self.seen = Suspects()
        self.stillborn = 0

    def records(self) -> Iterator[Record | None]:
        """Until no job is left."""
        while self._give_work():
            workers = {worker.connection: worker for worker in self.workers if worker.process}
            for ready in connection.wait(list(workers), SECONDS_BETWEEN_LOOKS):
                yield from self._hear(workers[ready])
            for worker in self.workers:
                yield from self._stop_overdue(worker)
                if worker.process and worker.process.exitcode is not None and not worker.connection.poll():
                    yield from self._lost(worker)  # a child of its own may keep the pipe open
            yield None

    def _give_work(self) -> bool:
        """Set idle workers to work where there is some; False where all is done."""
        for worker in self.workers:
            if worker.idle and (self.bundles or self.ahead):
                try:
                    if not worker.process:
                        self._start(worker)
                except OSError as error:
                    text = f"a worker cannot be started: {error.strerror or error}"
                    raise StoppedError(f"{text}; --jobs {len(self.workers) // 2 or 1} needs less") from error
                worker.bundle = self.bundles.popleft() if self.bundles else None
                worker.group, worker.idle = None, False
                with suppress(OSError):  # where it has just died: that is heard of soon
                    worker.connection.send_bytes(self.work)
        return not all(worker.idle for worker in self.workers)

    def _start(self, worker: _Worker) -> None:
        context = get_context("loky")
        worker.connection, far_end = context.Pipe()
        far_lifeline, worker.lifeline = context.Pipe(duplex=False)
        arguments = (worker.device, far_end, far_lifeline)
        process = context.Process(target=serve, args=arguments, daemon=True)
        with uninterrupted():  # a worker that nobody knows would be ended by nobody
            start_quietly(process)
            worker.process = process
        far_end.close()
        far_lifeline.close()

    def _hear(self, worker: _Worker) -> Iterator[Record]:
        """Take one piece of news, or that there will be none any more."""
        try:
            kind, news = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(worker)
            return
        if kind == "next":
            answer = self._hand_out(worker)
            with suppress(OSError):  # where it has just died: that is heard of soon
                worker.connection.send(answer)
        elif kind == "taken":
            worker.preparing = None
            worker.since.pop(news, None)
        elif kind == "preparing":
            worker.preparing = news
            if news:
                worker.since[news] = time.monotonic()
                self.stillborn = 0
        elif kind == "moved":
            self.moved(news)
        elif kind == "done":
            self._forget(worker, news.row["key"])
            yield news
        elif kind == "refused":
            yield self._failed(self._forget(worker, news.key), news.reason, worker)
        elif kind == "failed":
            raise StoppedError(f"a worker failed: {news}; what is finished is stored")
        elif kind == "idle":
            worker.idle = True
            for key in list(worker.held):  # no job is silently missing
                yield self._failed(self._forget(worker, key), NO_RESULT, worker)

    def _hand_out(self, worker: _Worker) -> tuple[str, type[Job], dict[str, Any]] | None:
        """The next job for a worker, by its names: a user's file is imported where it is used."""
        job = self._next_for(worker)
        if job is None:
            return None
        worker.held[job.key] = job
        return job.key, type(job), job.names()

    def _next_for(self, worker: _Worker) -> Job | None:
        """None where the bundle or the group that the worker is at has come to its end."""
        if worker.bundle is not None:
            return worker.bundle.popleft() if worker.bundle else None
        job = self.ahead
        if job is None:
            return None
        group = job.group
        if worker.group not in (None, group):
            return None
        worker.group = group
        try:
            self.ahead = next(self.fresh, None)
        except OSError as error:  # a checkpoint that was removed
            text = f"{error.filename}: {error.strerror}: a file that the sweep names is gone"
            raise StoppedError(f"{text}; what is finished is stored") from error
        return job

    def _forget(self, worker: _Worker, key: str) -> Job:
        worker.since.pop(key, None)
        return worker.held.pop(key)

    def _failed(self, job: Job, reason: str, worker: _Worker) -> Record:
        self.moved(job.steps)
        return failed_record(job, reason, worker.device)

    def _lost(self, worker: _Worker) -> Iterator[Record]:
        """A worker has died: what it had runs again; what ended it twice is an error."""
        suspects, during = worker.suspects()
        apart, guilty = self.seen.after_death(suspects, during)
        others = [job for job in worker.held.values() if job not in suspects]
        how = self._bury(worker, *apart, others)
        if guilty:
            text = f"worker died ({how}) twice while {during} this {_kind(guilty)}"
            yield self._failed(guilty, text, worker)
        elif not suspects:
            self.stillborn += 1
            if self.stillborn >= MOST_STILLBORN * len(self.workers):
                text = f"workers end before they begin a job ({how})"
                raise StoppedError(f"{text}; what is finished is stored: {RUNS_THE_REST}")

    def _stop_overdue(self, worker: _Worker) -> Iterator[Record]:
        if not (self.timeout and worker.process) or worker.connection.poll():
            return
        late = worker.overdue(self.timeout)
        if not late:
            return
        others = [job for job in worker.held.values() if job not in late]
        kill(worker.process)
        if late[1:] and late[0].coupled:
            apart, _ = self.seen.after_death(late, "running")
            self._bury(worker, *apart, others)
            return
        self._bury(worker, others)
        for job in late:
            yield self._failed(job, f"no result after {in_words(self.timeout)} (timeout)", worker)

    def _bury(self, worker: _Worker, *returned: list[Job]) -> str:
        """Keep what is to be run again of what a worker had that is to end; returns how it ended."""
        how, bundle = worker.bury()
        self.bundles.extend(deque(jobs) for jobs in [*returned, bundle] if jobs)
        return how


def _kind(job: Job) -> str:
    return type(job).__name__.lower()


def kill(process: Any) -> None:
    """End a process of loky's, whatever it does."""
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)


def how_it_ended(exitcode: int | None) -> str:
    """`exit code 3`, `SIGSEGV`."""
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else f"signal {-exitcode}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name
