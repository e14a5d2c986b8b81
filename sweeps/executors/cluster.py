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
from leakbench.bench.row import failure
from leakbench.bench.trial import Trial, group_of
from leakbench.core.errors import StoppedError, UserError, one_line
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.base import NO_RESULT, Moved, Work
from leakbench.sweeps.executors.devices import find_devices
from leakbench.sweeps.executors.memory import free_memory
from leakbench.sweeps.executors.suspects import Suspects
from leakbench.sweeps.executors.worker import Refusal, make_trial
from leakbench.sweeps.manifest import package_versions
from leakbench.sweeps.records import Record, to_record

ROUNDS = 4  # a bundle has so many trials a slot: the last batch of each is not full
WAITING = 2  # bundles a worker has at once, the one that it runs included
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_CONNECT = 10
SECONDS_FOR_A_WORKER = 60

_one_at_a_time = threading.Lock()  # in a worker of several threads


class Dask:
    """The workers of a dask scheduler; each is given bundles of trials, and answers with their records.

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

    def run(self, work: Work, trials: Iterable[Trial], slots: int, moved: Moved) -> Generator[Record | None]:
        """See `Executor.run`; steps are told of when a bundle comes back.

        Raises:
            StoppedError: the scheduler is gone, or workers cannot run trials at all.
        """
        bundles = _Bundles(trials, ROUNDS * slots)
        running: dict[Any, list[Trial]] = {}  # {future: its trials}
        try:
            while True:
                self._check_scheduler()
                for bundle in islice(bundles, max(0, self._wanted() - len(running))):
                    running[self._submit(work, bundle)] = bundle
                if not running:
                    return
                for future in [each for each in running if each.status in ("finished", "error", "cancelled")]:
                    for record, trial in self._take(future, running.pop(future), bundles):
                        moved(trial.attack.budget)
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

    def _submit(self, work: Work, bundle: list[Trial]) -> Any:
        named = [(trial.key, trial.names()) for trial in bundle]
        return self.client.submit(_run_bundle, work, self.devices[0], named, pure=False)

    def _take(self, future: Any, bundle: list[Trial], bundles: "_Bundles") -> Iterator[tuple[Record, Trial]]:
        """What came of a bundle; where its worker died, it goes back to the others."""
        from distributed import KilledWorker

        try:
            with foreign(KilledWorker, SystemExit):  # it raises what was raised there
                answers = future.result()
        except KilledWorker:
            guilty = bundles.give_back(bundle)
            if guilty:
                yield self._failed(guilty, "workers died again and again while running this trial"), guilty
            return
        except ForeignError as error:
            if future.status == "cancelled":
                raise self._gone() from error
            text = f"a worker failed: {error}; what is finished is stored"
            raise StoppedError(f"{text}: the same command runs the rest") from error
        except CancelledError as error:
            raise self._gone() from error
        trials = {trial.key: trial for trial in bundle}
        for answer in answers:
            if isinstance(answer, Refusal):
                trial = trials.pop(answer.key)
                yield self._failed(trial, answer.reason), trial
            else:
                yield answer, trials.pop(answer.row["key"])
        for trial in trials.values():
            yield self._failed(trial, NO_RESULT), trial

    def _check_scheduler(self) -> None:
        if self.client.status in ("closing", "closed"):  # after it has tried to connect again in vain
            raise self._gone()

    def _gone(self) -> StoppedError:
        text = f"the scheduler at {self.address} is gone; what is finished is stored"
        return StoppedError(f"{text}: the same command runs the rest")

    def _failed(self, trial: Trial, reason: str) -> Record:
        return to_record(failure(trial, reason, self.devices[0]))

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
    """The trials that no worker has, in bundles of those that can share a batch. An iterator."""

    def __init__(self, trials: Iterable[Trial], size: int):
        self.fresh = _chunks(trials, size)
        self.again: deque[list[Trial]] = deque()
        self.seen = Suspects()

    def __iter__(self) -> Iterator[list[Trial]]:
        return self

    def __next__(self) -> list[Trial]:
        return self.again.popleft() if self.again else next(self.fresh)

    def give_back(self, bundle: list[Trial]) -> Trial | None:
        """Take a bundle back whose workers died; returns the trial that is found to be the reason."""
        apart, guilty = self.seen.after_death(bundle, "running")
        self.again.extend(apart)
        return guilty


def _chunks(trials: Iterable[Trial], size: int) -> Iterator[list[Trial]]:
    for _, kind in groupby(trials, key=group_of):
        while chunk := list(islice(kind, size)):
            yield chunk


def _run_bundle(work: Work, device: str, named: list[tuple[str, dict[str, Any]]]) -> list[Record | Refusal]:
    """At a worker: the records of some trials."""
    with _one_at_a_time:
        prepare_worker()
        made = [make_trial(key, names) for key, names in named]
        refused = [each for each in made if isinstance(each, Refusal)]
        trials = (each for each in made if isinstance(each, Trial))
        return [*refused, *work(trials, device, Watcher())]
