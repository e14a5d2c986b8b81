"""Running a sweep: what is still missing, and what is said meanwhile. Every verb that runs one comes here."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.index import measure_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakbench.bench.job import Job
    from leakbench.board.benchmark import Benchmark
    from leakbench.sweeps.executors import Executor
    from leakbench.sweeps.options import RunOptions
    from leakbench.sweeps.plan import Plan
    from leakbench.sweeps.spec import Sweep
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.tables import Table
    from leakbench.sweeps.training import TrainingPlan


def load(file: Path, options: "RunOptions", download: bool = True) -> "Sweep":
    """The sweep of a file, checked; code that it names was tried in a process of its own.

    Args:
        file: the sweep file.
        options: what is asked for besides.
        download: whether datasets that ask for it are fetched.

    Raises:
        leakbench.UserError: with a line for everything that has to be changed.
    """
    from leakbench.bench.attacks import SUITES
    from leakbench.core.errors import UserError
    from leakbench.core.registry import unknown_text
    from leakbench.sweeps.checks import load_sweep
    from leakbench.sweeps.rehearsal import rehearse

    if options.suite and options.suite not in SUITES:
        raise UserError(f"--suite: {unknown_text('suite', options.suite, SUITES)}")
    rehearse(file, options.data_root, download, options.changes)
    sweep = load_sweep(file, options.data_root, download, options.changes)
    return sweep if options.timeout is None else sweep.with_timeout(options.timeout)


def load_parts(
    benchmark: "Benchmark", defenses: "Sequence[str]", attacks: "Sequence[str]", options: "RunOptions"
) -> "dict[str, Sweep]":
    """The sweep of each part of a leaderboard's protocol, checked; their files are not kept."""
    from leakbench.board.benchmark import write_parts

    with TemporaryDirectory() as draft:
        files = write_parts(benchmark, defenses, attacks, Path(draft))
        return {part: load(file, options) for part, file in files.items()}


def executor_for(options: "RunOptions", timeout: float) -> "Executor":
    """What runs jobs, of which none may take longer than the timeout in seconds; 0: no limit."""
    from leakbench.sweeps.executors import make_executor

    return make_executor(options.executor, options.device, options.jobs, options.scheduler, timeout)


def attacker_for(sweep: "Sweep", options: "RunOptions") -> "Executor":
    """What runs the attacks of a sweep.

    Raises:
        leakbench.UserError: the sweep has nothing to attack; or see `make_executor`.
    """
    from leakbench.core.errors import UserError

    if not sweep.datasets:
        text = f"{sweep.file}: datasets: expected images or texts to attack, found none"
        raise UserError(f"{text}; `leakbench utility {sweep.file}` trains what it describes")
    return executor_for(options, sweep.trial_timeout)


def run_sweep(sweep: "Sweep", options: "RunOptions", console: Console) -> "Store":
    """Run the attacks that have no row yet; the store that then holds all of them.

    Raises:
        leakbench.UserError: options that do not go together, or a folder that holds something else.
        InterruptedRunError: Ctrl-C; what is finished is stored.
    """
    from leakbench.sweeps.grid import trials
    from leakbench.sweeps.indices import probes_of
    from leakbench.sweeps.recorded import recorded_in
    from leakbench.sweeps.reuse import reuse
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.tables import TRIALS

    with closing(attacker_for(sweep, options)) as executor:
        store = Store.open_for(options.folder(sweep.file), sweep, options.fresh)
        announce(sweep, console)
        with store.lock(), _what_is_finished_is_stored():
            store.note("recorded", recorded_in(sweep))
            taken = reuse(TRIALS, trials(sweep), store, options.reuse, executor.hardware())
            _say_reused(taken, console)
            _forget_forced(TRIALS, trials(sweep), options, store, console)
            _run_missing(options, sweep, store, executor, console)
            probes = list(probes_of(sweep))
            store.note("indices", [probe.key for probe in probes])
            for line in measure_all(store.indices, probes, options.data_root, console):
                console.print(f"note: no index of {line}")
    return store


def run_trainings(sweep: "Sweep", options: "RunOptions", console: Console) -> "Store":
    """Run the trainings that have no row yet; the store that then holds all of them.

    Raises:
        leakbench.UserError: with a line for everything that has to be changed.
        InterruptedRunError: Ctrl-C; what is finished is stored.
    """
    from leakbench.sweeps.executors.devices import describe_devices
    from leakbench.sweeps.reuse import reuse
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.tables import TRAININGS
    from leakbench.sweeps.training import course_of, trainings_of
    from leakbench.sweeps.training_checks import check_training

    course = course_of(sweep)
    with closing(executor_for(options, course.timeout)) as executor:
        check_training(sweep, options.data_root)
        store = Store.open_for(options.folder(sweep.file), sweep, options.fresh)
        console.print(f"{sweep.file}: {sweep.describe_training()}; {describe_devices(executor.devices)}")
        with store.lock(), _what_is_finished_is_stored():
            wanted = trainings_of(sweep)
            if not course.checkpoints:  # other runs may not have kept those weights
                _say_reused(reuse(TRAININGS, wanted, store, options.reuse, executor.hardware()), console)
            _forget_forced(TRAININGS, wanted, options, store, console)
            _train_missing(options, sweep, store, executor, console)
    return store


def _train_missing(
    options: "RunOptions", sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> None:
    from leakbench.bench.training import WIDTH
    from leakbench.sweeps.progress import show_progress
    from leakbench.sweeps.runner import run
    from leakbench.sweeps.tables import TRAININGS
    from leakbench.sweeps.training import course_of, plan_trainings, train

    todo = plan_trainings(sweep, store, options.retry)
    if todo.kept or todo.retried:
        again = f", {len(todo.retried)} of them again after an error" if todo.retried else ""
        console.print(f"{store.folder}: {there_already(todo)}, {len(todo)} to run{again}")
    store.forget(TRAININGS, todo.retried)
    devices = executor.devices if todo else []
    store.begin(TRAININGS, sweep, devices, executor.hardware(), todo.kept, todo.left_out)
    if todo:
        work = partial(train, data_root=options.data_root, keep=course_of(sweep).checkpoints)
        with show_progress(console, todo) as progress:
            run(todo, work, WIDTH, store, executor, progress)


def announce(sweep: "Sweep", console: Console) -> None:
    """What the sweep is, and what is to be noted of it."""
    console.print(f"{sweep.file}: {sweep.describe()}")
    for notice in sweep.notices:
        console.print(f"note: {notice}")


@contextmanager
def _what_is_finished_is_stored() -> Iterator[None]:
    from leakbench.core.interrupts import InterruptedRunError

    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRunError from error


def _say_reused(taken: dict[Path, int], console: Console) -> None:
    for folder, count in taken.items():
        console.print(f"{folder}: {count} row{'s' * (count > 1)} taken from there")


def _forget_forced(
    table: "Table", jobs: "Iterable[Job]", options: "RunOptions", store: "Store", console: Console
) -> None:
    from leakbench.sweeps.plan import matching

    if options.force:
        again = matching(jobs, options.force) & store.statuses(table).keys()
        noun = table.name.removesuffix("s")
        stored = f"1 stored {noun} is" if len(again) == 1 else f"{len(again)} stored {noun}s are"
        console.print(f"{store.folder}: {stored} removed, to be run again")
        store.forget(table, again)


def _run_missing(
    options: "RunOptions", sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what has no row yet, and say what is done with what; what waits for those rows after them."""
    from leakbench.core.words import counted
    from leakbench.sweeps.plan import plan_of
    from leakbench.sweeps.tables import TRIALS

    todo = plan_of(sweep, store, options.retry)
    for line in describe_plan(todo, store, executor.hardware()):
        console.print(line)
    store.forget(TRIALS, todo.retried)
    if not todo:
        store.begin(TRIALS, sweep, [], [], todo.kept, todo.left_out)
    store.note("settled", dict(todo.settled))
    while todo:
        _run_plan(options, todo, store, executor, console)
        todo = plan_of(sweep, store)
        store.note("settled", dict(todo.settled))
        if todo:
            spared = sum(todo.settled.values())
            needless = f"{spared} {'is' if spared == 1 else 'are'} not needed"
            console.print(f"{counted(len(todo), 'trial')} more, on what has not leaked; {needless}")


def _run_plan(
    options: "RunOptions", todo: "Plan", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what is due now."""
    from leakbench.bench.execution import Conditions
    from leakbench.sweeps.executors.devices import describe_workers
    from leakbench.sweeps.progress import show_progress
    from leakbench.sweeps.resources import choose
    from leakbench.sweeps.runner import ROUNDS, attack, run
    from leakbench.sweeps.tables import TRIALS

    resources, memory = choose(todo, executor.devices, executor.free(), options.slots, options.data_root)
    conditions = Conditions(resources, options.data_root, todo.sweep.snapshot_every)
    console.print(describe_workers(executor, resources, str(memory)))
    store.begin(TRIALS, todo.sweep, executor.devices, executor.hardware(), todo.kept, todo.left_out)
    with show_progress(console, todo) as progress:
        work = partial(attack, conditions=conditions)
        run(todo, work, ROUNDS * resources.slots, store, executor, progress)


def there_already(todo: "Plan | TrainingPlan") -> str:
    """`1 trial is there already`."""
    from leakbench.core.words import counted

    return f"{counted(todo.kept, todo.noun)} {'is' if todo.kept == 1 else 'are'} there already"


def describe_plan(todo: "Plan", store: "Store", hardware: set[str]) -> Iterator[str]:
    """What is there already, a line a fact; nothing for a new folder."""
    from leakbench.sweeps.manifest import what_changed
    from leakbench.sweeps.tables import TRIALS

    if todo.kept or todo.retried:
        again = f", {len(todo.retried)} of them again after an error" if todo.retried else ""
        more = f", then at most {todo.waiting} more" if todo.waiting else ""
        yield f"{store.folder}: {there_already(todo)}, {len(todo)} to run{again}{more}"
    if todo.left_out:
        stored = f"{len(todo.left_out)} stored row{'s are' if len(todo.left_out) > 1 else ' is'}"
        text = (
            f"no longer requested by the file, and in no table; `leakbench tidy {store.folder}` removes them"
        )
        yield f"note: {stored} {text}"
    for change in what_changed(store.manifest(), TRIALS, hardware) if todo and todo.kept else []:
        yield f"note: {change}: new rows may differ from those that are there in their last digits"
    if len(hardware) > 1:
        each = ", ".join(sorted(hardware))
        yield f"note: workers on {each}: a trial gives the same verdict on each, and other last digits"
