"""`leakbench sweep`: run the attacks that a sweep file describes."""

import argparse
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import INTERRUPTED
from leakbench.commands.common import (
    Verbs,
    add_data_root,
    add_reuse,
    add_workers,
    describe_reuse,
    positive,
    show_failures,
    writing_reports,
)
from leakbench.commands.index import measure_all

if TYPE_CHECKING:
    from leakbench.sweeps.executors import Executor
    from leakbench.sweeps.plan import Plan
    from leakbench.sweeps.spec import Sweep
    from leakbench.sweeps.store import Store

LISTED = 20  # trials that a dry run names


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    sweep = verbs.add_parser("sweep", help="run the attacks that a sweep file describes")
    sweep.add_argument("file", type=Path, metavar="FILE", help="such as sweeps/quick.yaml")
    sweep.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    sweep.add_argument("--quick", action="store_true", help="with what the file has under `quick`")
    sweep.add_argument("--suite", metavar="NAME", help="its attacks in place of the file's, such as standard")
    sweep.add_argument(
        "--exhaustive",
        action="store_true",
        help="attack victims that have leaked with the other attacks, too",
    )
    sweep.add_argument("--fresh", action="store_true", help="only if the folder of the run is empty")
    add_reuse(sweep)
    sweep.add_argument("--retry", choices=["errors"], help="run failed trials again, too")
    add_workers(sweep)
    sweep.add_argument("--slots", type=positive, metavar="N", help="trials a worker attacks at once")
    sweep.add_argument(
        "--executor",
        choices=["joblib", "dask", "inline"],
        default="joblib",
        help="joblib: a process a worker (default); dask: a cluster; inline: in this process, for debugging",
    )
    sweep.add_argument("--no-figures", action="store_true", help="leave out the figures and the page")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of dask, such as tcp://10.0.0.1:8786")
    add_data_root(sweep)
    sweep.add_argument(
        "--dry-run", action="store_true", help="show what would run and what it would take; run nothing"
    )
    sweep.add_argument("--plan", metavar="gpus=N|cores=N", help="with --dry-run: on a machine with so many")
    sweep.set_defaults(command=run_sweep)


def run_sweep(options: argparse.Namespace, console: Console) -> int:
    """`leakbench sweep`: run what is missing, then the table, the CSV and the figures."""
    from leakbench.bench.attacks import SUITES
    from leakbench.core.errors import UserError
    from leakbench.core.registry import unknown_text
    from leakbench.sweeps.checks import load_sweep
    from leakbench.sweeps.executors import make_executor
    from leakbench.sweeps.rehearsal import rehearse
    from leakbench.sweeps.spec import Changes
    from leakbench.sweeps.store import Store

    if options.plan and not options.dry_run:
        raise UserError("--plan: expected --dry-run with it: it predicts, and runs nothing")
    download = not options.dry_run
    if options.suite is not None and options.suite not in SUITES:
        raise UserError(f"--suite: {unknown_text('suite', options.suite, SUITES)}")
    changes = Changes(options.quick, options.suite or "", options.exhaustive)
    rehearse(options.file, options.data_root, download, changes)
    sweep = load_sweep(options.file, options.data_root, download, changes)
    if not sweep.datasets:
        text = f"{options.file}: datasets: expected images to attack, found none"
        raise UserError(f"{text}; `leakbench utility {options.file}` trains what it describes")
    folder = options.out or Path("runs") / options.file.stem
    jobs, scheduler = options.jobs, options.scheduler
    made = make_executor(options.executor, options.device, jobs, scheduler, sweep.trial_timeout)
    with closing(made) as executor:
        store = Store.open_for(folder, sweep, options.fresh, create=not options.dry_run)
        return run_in(store, options, sweep, executor, console)


def run_in(
    store: "Store", options: argparse.Namespace, sweep: "Sweep", executor: "Executor", console: Console
) -> int:
    """Run what is missing in that store, or foretell it."""
    from leakbench.sweeps.indices import probes_of
    from leakbench.sweeps.reuse import reuse_trials

    console.print(f"{options.file}: {sweep.describe()}")
    for notice in sweep.notices:
        console.print(f"note: {notice}")
    if options.dry_run:
        return show_forecast(options, sweep, store, executor, console)
    with store.lock():
        try:
            taken = reuse_trials(sweep, store, options.reuse, executor.hardware())
            for line in describe_reuse(taken):
                console.print(line)
            run_missing(options, sweep, store, executor, console)
            probes = list(probes_of(sweep))
            store.note_indices([probe.key for probe in probes])
            for line in measure_all(store.indices, probes, options.data_root, console):
                console.print(f"note: no index of {line}")
        except KeyboardInterrupt:
            console.print("stopped; what is finished is stored: the same command runs the rest")
            return INTERRUPTED
        return show_results(store, console, not options.no_figures)


def run_missing(
    options: argparse.Namespace, sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what has no row yet, and say what is done with what; what waits for those rows after them."""
    from leakbench.sweeps.plan import plan_of

    todo = plan_of(sweep, store, retry_errors=options.retry == "errors")
    hardware = executor.hardware()
    for line in describe_plan(todo, store, hardware):
        console.print(line)
    store.forget(todo.retried)
    if not todo:
        store.begin(sweep, [], [], todo.kept, todo.left_out)
    store.note_settled(todo.settled)
    while todo:
        run_plan(options, todo, store, executor, console)
        todo = plan_of(sweep, store)
        store.note_settled(todo.settled)
        if todo:
            spared = sum(todo.settled.values())
            console.print(f"{len(todo)} trials more, on what has not leaked; {spared} are not needed")


def run_plan(
    options: argparse.Namespace, todo: "Plan", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what is due now."""
    from leakbench.bench.trial import Conditions
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


def show_forecast(
    options: argparse.Namespace, sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> int:
    """`leakbench sweep --dry-run`: what would run, and what it would take."""
    from leakbench.sweeps.forecast import forecast, workers_of
    from leakbench.sweeps.plan import plan_of
    from leakbench.sweeps.resources import choose

    workers = executor.devices
    if options.plan:
        workers = workers[:1] * workers_of(options.plan, workers[0])
    todo = plan_of(sweep, store, options.retry == "errors", ahead=True)
    if todo.kept:
        console.print(f"{store.folder}: {todo.kept} trials are there already, {len(todo)} to run")
    for trial in islice(todo, LISTED):
        console.print(
            "{dataset} {index}  {model} weights {model_seed}  {attack}  start {start}  {defense}".format(
                **trial.names()
            )
        )
    if len(todo) > LISTED:
        console.print(f"... and {len(todo) - LISTED} more")
    if todo:
        resources, memory = choose(todo, workers, executor.free(), options.slots, options.data_root)
        console.print(str(forecast(todo, resources, memory, len(workers), options.data_root)))
    bound = "at most " if sweep.spares else ""
    console.print(f"{bound}{len(todo)} trials would run; nothing was written")
    return 0


def show_results(store: "Store", console: Console, figures: bool) -> int:
    """The table of a finished sweep, and the paths of what was written."""
    from leakbench.reports.csv_file import write_csv
    from leakbench.reports.run import Run
    from leakbench.reports.tables import terminal_tables

    run = Run(store)
    for table in terminal_tables(run.settings):
        console.print(table)
    if len(run.indices):
        from leakbench.reports.index import correlations, index_and_leakage, index_tables

        for table in index_tables(run.indices):
            console.print(table)
        for line in correlations(index_and_leakage(run.indices, run.settings)):
            console.print(line)
    console.print(f"rows     {store.folder / 'trials.parquet'}")
    with writing_reports(store.folder):
        console.print(f"csv      {write_csv(run.rows, store.folder / 'trials.csv')}")
        if figures:
            from leakbench.reports.figures import write_figures  # brings in matplotlib: a second
            from leakbench.reports.page import write_page

            drawn = write_figures(run)
            for figure in drawn:
                console.print(f"figure   {figure.paths[0]}")
            console.print(f"page     {write_page(run, drawn)}")
    return show_failures(run.rows, "trial", console)
