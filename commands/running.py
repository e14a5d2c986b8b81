"""Running a sweep: what is still missing, and what is said meanwhile. Every verb that runs one comes here."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.index import measure_all

if TYPE_CHECKING:
    from leakbench.sweeps.executors import Executor
    from leakbench.sweeps.options import RunOptions
    from leakbench.sweeps.plan import Plan
    from leakbench.sweeps.spec import Sweep
    from leakbench.sweeps.store import Store


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
    return load_sweep(file, options.data_root, download, options.changes)


def executor_for(sweep: "Sweep", options: "RunOptions") -> "Executor":
    """What runs the attacks of a sweep.

    Raises:
        leakbench.UserError: the sweep has no images to attack; or see `make_executor`.
    """
    from leakbench.core.errors import UserError
    from leakbench.sweeps.executors import make_executor

    if not sweep.datasets:
        text = f"{sweep.file}: datasets: expected images to attack, found none"
        raise UserError(f"{text}; `leakbench utility {sweep.file}` trains what it describes")
    name, scheduler = options.executor, options.scheduler
    timeout = sweep.trial_timeout if options.trial_timeout is None else options.trial_timeout
    return make_executor(name, options.device, options.jobs, scheduler, timeout)


def run_sweep(sweep: "Sweep", options: "RunOptions", console: Console) -> "Store":
    """Run the attacks that have no row yet; the store that then holds all of them.

    Raises:
        leakbench.UserError: options that do not go together, or a folder that holds something else.
        InterruptedRunError: Ctrl-C; what is finished is stored.
    """
    from leakbench.sweeps.indices import probes_of
    from leakbench.sweeps.reuse import reuse_trials
    from leakbench.sweeps.store import Store

    with closing(executor_for(sweep, options)) as executor:
        store = Store.open_for(options.folder(sweep.file), sweep, options.fresh)
        announce(sweep, console)
        with store.lock(), _what_is_finished_is_stored():
            _say_reused(reuse_trials(sweep, store, options.reuse, executor.hardware()), console)
            _forget_forced(options, sweep, store, console)
            _run_missing(options, sweep, store, executor, console)
            probes = list(probes_of(sweep))
            store.note_indices([probe.key for probe in probes])
            for line in measure_all(store.indices, probes, options.data_root, console):
                console.print(f"note: no index of {line}")
    return store


def run_trainings(sweep: "Sweep", options: "RunOptions", console: Console) -> "Store":
    """Run the trainings that have no row yet; the store that then holds all of them.

    Raises:
        leakbench.UserError: with a line for everything that has to be changed.
        InterruptedRunError: Ctrl-C; what is finished is stored.
    """
    from leakbench.bench.hardware import hardware_of
    from leakbench.sweeps.executors.devices import describe_devices, find_devices, worker_devices
    from leakbench.sweeps.reuse import reuse_trainings
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.training import check_training, train

    devices = worker_devices(find_devices(options.device), options.jobs)
    check_training(sweep, options.data_root)
    store = Store.open_for(options.folder(sweep.file), sweep, options.fresh)
    console.print(f"{sweep.file}: {sweep.describe_training()}; {describe_devices(devices)}")
    with store.lock(), _what_is_finished_is_stored():
        hardware = set(map(hardware_of, devices))
        _say_reused(reuse_trainings(sweep, store, options.reuse, hardware), console)
        for line in train(sweep, store, devices, options.data_root, options.retry):
            console.print(line)
    return store


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


def _forget_forced(options: "RunOptions", sweep: "Sweep", store: "Store", console: Console) -> None:
    from leakbench.sweeps.plan import matching

    if options.force:
        again = matching(sweep, options.force) & store.statuses().keys()
        trials = "1 stored trial is" if len(again) == 1 else f"{len(again)} stored trials are"
        console.print(f"{store.folder}: {trials} removed, to be run again")
        store.forget(again)


def _run_missing(
    options: "RunOptions", sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what has no row yet, and say what is done with what; what waits for those rows after them."""
    from leakbench.sweeps.plan import plan_of

    todo = plan_of(sweep, store, options.retry)
    for line in describe_plan(todo, store, executor.hardware()):
        console.print(line)
    store.forget(todo.retried)
    if not todo:
        store.begin(sweep, [], [], todo.kept, todo.left_out)
    store.note_settled(todo.settled)
    while todo:
        _run_plan(options, todo, store, executor, console)
        todo = plan_of(sweep, store)
        store.note_settled(todo.settled)
        if todo:
            spared = sum(todo.settled.values())
            console.print(f"{len(todo)} trials more, on what has not leaked; {spared} are not needed")


def _run_plan(
    options: "RunOptions", todo: "Plan", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what is due now."""
    from leakbench.bench.execution import Conditions
    from leakbench.sweeps.executors.devices import describe_workers
    from leakbench.sweeps.progress import show_progress
    from leakbench.sweeps.resources import choose
    from leakbench.sweeps.runner import run

    resources, memory = choose(todo, executor.devices, executor.free(), options.slots, options.data_root)
    conditions = Conditions(resources, options.data_root, todo.sweep.snapshot_every)
    console.print(describe_workers(executor, resources, str(memory)))
    store.begin(todo.sweep, executor.devices, executor.hardware(), todo.kept, todo.left_out)
    with show_progress(console, todo) as progress:
        run(todo, store, executor, conditions, progress)


def describe_plan(todo: "Plan", store: "Store", hardware: set[str]) -> Iterator[str]:
    """What is there already, a line a fact; nothing for a new folder."""
    from leakbench.sweeps.manifest import what_changed

    if todo.kept or todo.retried:
        again = f", {len(todo.retried)} of them again after an error" if todo.retried else ""
        more = f", then at most {todo.waiting} more" if todo.waiting else ""
        yield f"{store.folder}: {todo.kept} trials are there already, {len(todo)} to run{again}{more}"
    if todo.left_out:
        stored = f"{len(todo.left_out)} stored row{'s are' if len(todo.left_out) > 1 else ' is'}"
        text = (
            f"no longer requested by the file, and in no table; `leakbench tidy {store.folder}` removes them"
        )
        yield f"note: {stored} {text}"
    for change in what_changed(store.manifest(), hardware) if todo and todo.kept else []:
        yield f"note: {change}: new rows may differ from those that are there in their last digits"
    if len(hardware) > 1:
        each = ", ".join(sorted(hardware))
        yield f"note: workers on {each}: a trial gives the same verdict on each, and other last digits"
