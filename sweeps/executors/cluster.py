"""Workers on any number of machines, through the futures of dask.distributed."""

import threading
import time
from asyncio import CancelledError
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import groupby, islice
from typing import Any

from leakbench.bench.execution import Watcher
from leakbench.bench.hardware import hardware_of
from leakbench.bench.job import Job
from leakbench.core.errors import RUNS_THE_REST, StoppedError, UserError, one_line
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.base import NO_RESULT, Moved, Work
from leakbench.sweeps.executors.devices import find_devices
from leakbench.sweeps.executors.memory import free_memory
from leakbench.sweeps.executors.suspects import Suspects
from leakbench.sweeps.executors.worker import Refusal, make_job
from leakbench.sweeps.manifest import package_versions
from leakbench.sweeps.records import Record, failed_record

WAITING = 2  # bundles a worker has at once, the one that it runs included
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_CONNECT = 10
SECONDS_FOR_A_WORKER = 60

Named = tuple[str, type[Job], dict[str, Any]]  # the key of a job, and what makes it again

_one_at_a_time = threading.Lock()  # in a worker of several threads


class Dask:
    """The workers of a dask scheduler; each is given bundles of jobs, and answers with their records.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`.
        device: `auto`, `cpu` or `cuda`; of each worker's GPUs, the first that it sees.

    Raises:
        UserError: dask is not installed, no scheduler answers, no worker comes, or they do not fit.
    """

    def __init__(self, address: str, device: str):
        try:
            import distributed
        except ImportError as error:
            text = "--executor dask: dask.distributed is not installed"
            raise UserError(f"{text}; `pip install -e '.[cluster]'` installs it") from error
        try:
            self.client = distributed.Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            text = f"--scheduler {address}: expected a dask scheduler that answers, found none"
            raise UserError(f"{text} ({one_line(error)})") from error
        try:
            self.client.wait_for_workers(1, timeout=SECONDS_FOR_A_WORKER)
        except TimeoutError as error:
            text = f"--scheduler {address}: no worker came within {SECONDS_FOR_A_WORKER} s"
            raise UserError(f"{text}; `dask worker {address} --nthreads 1` starts one") from error
        self.address = address
        self._check_versions()
        self.devices = [self._device(device)] * len(self._workers())

    def hardware(self) -> set[str]:
        """See `Executor.hardware`."""
        return set(self._ask(hardware_of, self.devices[0]).values())

    def free(self) -> int | None:
        """See `Executor.free`."""
        workers = self._workers()
        on_host = Counter(worker["host"] for worker in workers.values())
        shares = []
        for address, free in self._ask(free_memory, self.devices[0]).items():
            if free is None or address not in workers:
                return None
            shares.append(free // on_host[workers[address]["host"]])
            if self.devices[0] == "cpu" and workers[address]["memory_limit"]:
                shares.append(workers[address]["memory_limit"] - workers[address]["metrics"]["memory"])
        return min(shares, default=None)

    def run(self, work: Work, jobs: Iterable[Job], bundle: int, moved: Moved) -> Generator[Record | None]:
        """See `Executor.run`; steps are told of when a bundle comes back.

        Raises:
            StoppedError: the scheduler is gone, or workers cannot run jobs at all.
        """
        bundles = _Bundles(jobs, bundle)
        running: dict[Any, list[Job]] = {}  # {future: its jobs}
        try:
            while True:
                self._check_scheduler()
                for jobs in islice(bundles, max(0, self._wanted() - len(running))):
                    running[self._submit(work, jobs)] = jobs
                if not running:
                    return
                for future in [each for each in running if each.status in ("finished", "error", "cancelled")]:
                    for record, job in self._take(future, running.pop(future), bundles):
                        moved(job.steps)
                        yield record
                yield None
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            if self.client.status == "running":
                self.client.cancel(list(running), force=True)

    def close(self) -> None:
        """See `Executor.close`."""
        self.client.close()

    def _wanted(self) -> int:
        """Bundles to have under way; one even where all workers are dead, for there will be others."""
        return max(1, WAITING * len(self._workers()))

    def _submit(self, work: Work, bundle: list[Job]) -> Any:
        named = [(job.key, type(job), job.names()) for job in bundle]
        return self.client.submit(_run_bundle, work, self.devices[0], named, pure=False)

    def _take(self, future: Any, bundle: list[Job], bundles: "_Bundles") -> Iterator[tuple[Record, Job]]:
        """What came of a bundle; where its worker died, it goes back to the others."""
        from distributed import KilledWorker

        try:
            with foreign(KilledWorker, SystemExit):  # it raises what was raised there
                answers = future.result()
        except KilledWorker:
            guilty = bundles.give_back(bundle)
            if guilty:
                yield self._failed(guilty, "workers died again and again while running it"), guilty
            return
        except ForeignError as error:
            if future.status == "cancelled":
                raise self._gone() from error
            text = f"a worker failed: {error}; what is finished is stored"
            raise StoppedError(f"{text}: {RUNS_THE_REST}") from error
        except CancelledError as error:
            raise self._gone() from error
        jobs = {job.key: job for job in bundle}
        for answer in answers:
            if isinstance(answer, Refusal):
                job = jobs.pop(answer.key)
                yield self._failed(job, answer.reason), job
            else:
                yield answer, jobs.pop(answer.row["key"])
        for job in jobs.values():
            yield self._failed(job, NO_RESULT), job

    def _check_scheduler(self) -> None:
        if self.client.status in ("closing", "closed"):  # after it has tried to connect again in vain
            raise self._gone()

    def _gone(self) -> StoppedError:
        text = f"the scheduler at {self.address} is gone; what is finished is stored"
        return StoppedError(f"{text}: {RUNS_THE_REST}")

    def _failed(self, job: Job, reason: str) -> Record:
        return failed_record(job, reason, self.devices[0])

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1).get("workers", {})
        return workers

    def _ask(self, question: Callable[..., Any], *about: Any) -> dict[str, Any]:
        """{address of a worker: its answer}."""
        try:
            with foreign(OSError, SystemExit):  # likewise
                answers: dict[str, Any] = self.client.run(question, *about)
        except OSError as error:
            raise self._gone() from error
        except ForeignError as error:
            text = f"--scheduler {self.address}: expected workers that can run leakbench"
            raise UserError(f"{text}, got {error}; install it where they run") from error
        return answers

    def _check_versions(self) -> None:
        here = package_versions()
        for address, there in self._ask(package_versions).items():
            for name in here:
                if there.get(name) != here[name]:
                    text = f"worker {address}: expected {name} {here[name]} as here, found {there.get(name)}"
                    raise UserError(f"{text}: rows would differ")

    def _device(self, asked: str) -> str:
        """The name that the device has on every worker."""
        if asked == "cpu":
            return "cpu"
        if asked not in ("auto", "cuda"):
            raise UserError(f"--device: expected auto, cpu or cuda with --executor dask, got {asked!r}")
        found = self._ask(find_devices, "auto")
        kinds = {"cpu" if devices == ["cpu"] else "cuda:0" for devices in found.values()}
        if len(kinds) > 1 or (asked == "cuda" and kinds != {"cuda:0"}):
            without = ", ".join(address for address, devices in found.items() if devices == ["cpu"])
            raise UserError(f"--device {asked}: expected a GPU at every worker, found none at {without}")
        return kinds.pop()


class _Bundles:
    """The jobs that no worker has, in bundles of those that can share a batch. An iterator."""

    def __init__(self, jobs: Iterable[Job], size: int):
        self.fresh = _chunks(jobs, size)
        self.again: deque[list[Job]] = deque()
        self.seen = Suspects()

    def __iter__(self) -> Iterator[list[Job]]:
        return self

    def __next__(self) -> list[Job]:
        return self.again.popleft() if self.again else next(self.fresh)

    def give_back(self, bundle: list[Job]) -> Job | None:
        """Take a bundle back whose workers died; returns the job that is found to be the reason."""
        apart, guilty = self.seen.after_death(bundle, "running")
        self.again.extend(apart)
        return guilty


def _chunks(jobs: Iterable[Job], size: int) -> Iterator[list[Job]]:
    for _, kind in groupby(jobs, key=lambda job: job.group):
        while chunk := list(islice(kind, size)):
            yield chunk


def _run_bundle(work: Work, device: str, named: list[Named]) -> list[Record | Refusal]:
    """At a worker: the records of some jobs."""
    with _one_at_a_time:
        prepare_worker()
        made = [make_job(*each) for each in named]
        refused = [each for each in made if isinstance(each, Refusal)]
        jobs = (each for each in made if isinstance(each, Job))
        return [*refused, *work(jobs, device, Watcher())]
