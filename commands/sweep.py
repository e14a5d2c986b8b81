"""`leakbench sweep`: run the attacks that a sweep file describes."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import (
    Verbs,
    add_again,
    add_data_root,
    add_executor,
    add_reuse,
    add_timeout,
    add_workers,
    file_beside,
    named_after,
    positive,
    run_options,
    show_failures,
    writing_reports,
)
from leakbench.commands.running import announce, attacker_for, load, run_sweep, there_already

if TYPE_CHECKING:
    from leakbench.reports.run import Run
    from leakbench.sweeps.options import RunOptions
    from leakbench.sweeps.plan import Plan
    from leakbench.sweeps.spec import Sweep

LISTED = 20  # trials that a dry run names
KINDS = {
    "dataset": "cifar10-sample",
    "model": "lenet",
    "protocol": "'fedsgd(batch_size=2)'",
    "attack": "adaptive",
    "defense": "'prune(ratio=0.5)', or 'prune*' for those of the file",
}


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    sweep = verbs.add_parser("sweep", help="run the attacks that a sweep file describes")
    sweep.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="such as sweeps/quick.yaml; may be omitted with --dataset",
    )
    sweep.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    sweep.add_argument("--quick", action="store_true", help="use the values that the file has under `quick`")
    sweep.add_argument(
        "--suite", metavar="NAME", help="a suite in place of the file's attacks, such as standard"
    )
    sweep.add_argument(
        "--exhaustive",
        action="store_true",
        help="run the other attacks on victims that have leaked, too",
    )
    _add_parts(sweep)
    sweep.add_argument("--fresh", action="store_true", help="run only if the folder of the run is empty")
    add_reuse(sweep)
    add_again(sweep, "trial", "defense, attack, dataset, model or protocol")
    add_workers(sweep)
    add_executor(sweep)
    add_timeout(sweep)
    sweep.add_argument("--slots", type=positive, metavar="N", help="trials that a worker attacks at once")
    sweep.add_argument("--no-figures", action="store_true", help="write no figures and no page")
    add_data_root(sweep)
    sweep.add_argument(
        "--dry-run", action="store_true", help="show what would run and what it would take; run nothing"
    )
    sweep.add_argument("--plan", metavar="gpus=N|cores=N", help="with --dry-run: predict for another machine")
    sweep.set_defaults(command=sweep_or_foretell)


def _add_parts(sweep: argparse.ArgumentParser) -> None:
    """The options that replace keys of a sweep file."""
    for kind, example in KINDS.items():
        sweep.add_argument(
            f"--{kind}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"in place of the file's, such as {example}; may be given several times",
        )
    sweep.add_argument("--indices", default="", metavar="I-J", help="images of every dataset, such as 0-4")
    sweep.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the sweep file, such as restarts=3 or training.epochs=5",
    )


def sweep_or_foretell(options: argparse.Namespace, console: Console) -> int:
    """`leakbench sweep`."""
    from leakbench.core.errors import UserError

    if options.plan and not options.dry_run:
        raise UserError("--plan: expected --dry-run with it, got none; --plan only predicts")
    with file_to_run(options) as (file, own, shown):
        if options.dry_run:
            sweep = replace(load(file, own, download=False), file=shown)
            return show_forecast(sweep, own, options.plan, console)
        return sweep_file(file, own, console, figures=not options.no_figures)


@contextmanager
def file_to_run(options: argparse.Namespace) -> Iterator[tuple[Path, "RunOptions", Path]]:
    """The sweep file, how to run it, and the path to show to the user.

    Options that change its keys are written to a new file next to the run's folder, which reproduces the
    run. A dry run leaves no such file.
    """
    from leakbench.core.errors import UserError
    from leakbench.sweeps.comparison import write_sweep
    from leakbench.sweeps.typed import Typed, merge

    own = run_options(options)
    lists = {f"{kind}s": tuple(getattr(options, kind)) for kind in KINDS}
    typed = Typed(lists, options.indices, tuple(options.set), own.suite, own.quick)
    if not typed and options.file is not None:
        yield options.file, own, options.file
        return
    if options.file is None and not options.dataset:
        raise UserError("expected a sweep FILE, or --dataset NAME and other options, got neither; see --help")
    content = merge(options.file, typed)
    folder = own.out or Path("runs") / (
        options.file.stem if options.file else named_after(options.dataset[0])
    )
    file = file_beside(folder)
    if options.file is not None and file.resolve() == options.file.resolve():
        text = f"--out: expected another folder than {folder}, because {file} would be overwritten"
        raise UserError(text)
    own = replace(own, out=folder, quick=False, suite="")
    command = sys.argv[1:] if sys.argv[1:2] == ["sweep"] else ["sweep"]
    if not options.dry_run:
        write_sweep(content, file, command)
        yield file, own, file
        return
    with TemporaryDirectory() as elsewhere:
        draft = Path(elsewhere) / file.name
        write_sweep(content, draft, command)
        try:
            yield draft, own, file
        except UserError as error:
            raise UserError(*(text.replace(str(draft), str(file)) for text in error.problems)) from error


def sweep_file(file: Path, options: "RunOptions", console: Console, figures: bool) -> int:
    """Run what is missing, then write the tables, the CSV and the figures; returns the exit status."""
    from leakbench.reports.run import Run

    return show_results(Run(run_sweep(load(file, options), options, console)), console, figures)


def show_forecast(sweep: "Sweep", options: "RunOptions", machine: str | None, console: Console) -> int:
    """`leakbench sweep --dry-run`: what would run, and what it would take.

    Args:
        sweep: what to run.
        options: how to run it.
        machine: such as `gpus=8`, for another machine than this one.
        console: to print on.
    """
    from leakbench.core.words import counted
    from leakbench.sweeps.forecast import workers_of
    from leakbench.sweeps.grid import trials
    from leakbench.sweeps.indices import index_problem, probes_of
    from leakbench.sweeps.plan import matching, plan_of
    from leakbench.sweeps.store import Store

    with closing(attacker_for(sweep, options)) as executor:
        store = Store.open_for(options.folder(sweep.file), sweep, options.fresh, create=False)
        announce(sweep, console)
        for problem in dict.fromkeys(filter(None, map(index_problem, probes_of(sweep)))):
            console.print(f"note: no index of {problem}")
        workers = executor.devices
        if machine:
            workers = workers[:1] * workers_of(machine, workers[0])
        forced = matching(trials(sweep), options.force) if options.force else ()
        todo = plan_of(sweep, store, options.retry, ahead=True, forced=forced)
        if todo.kept:
            console.print(f"{store.folder}: {there_already(todo)}, {len(todo)} to run")
        for trial in islice(todo, LISTED):
            console.print(
                "{dataset} {index}  {model} weights {model_seed}  {attack}  start {start}  {defense}".format(
                    **trial.names()
                )
            )
        if len(todo) > LISTED:
            console.print(f"... and {len(todo) - LISTED} more")
        if options.reuse:
            console.print("note: rows that --reuse would take are not deducted")
        if todo:
            console.print(costs_of(todo, workers, executor.free(), options))
    bound = "at most " if sweep.spares else ""
    console.print(f"{bound}{counted(len(todo), 'trial')} would run; nothing was written")
    return 0


def costs_of(todo: "Plan", workers: list[str], free: int | None, options: "RunOptions") -> str:
    """What the trials would take, or why that is not known; nothing is downloaded to find out."""
    from leakbench.sweeps.checks import to_download
    from leakbench.sweeps.forecast import forecast
    from leakbench.sweeps.resources import choose

    missing = to_download(todo.sweep, options.data_root)
    if missing:
        return (
            f"note: time, memory and disk are not predicted: {', '.join(missing)} would be downloaded first"
        )
    resources, memory = choose(todo, workers, free, options.slots, options.data_root)
    return str(forecast(todo, resources, memory, len(workers), options.data_root))


def show_results(run: "Run", console: Console, figures: bool) -> int:
    """Print the tables of a finished sweep and the paths of its files; returns the exit status."""
    from leakbench.reports.csv_file import write_csv
    from leakbench.reports.recorded import found_words, sentences, updates_table, write_pictures
    from leakbench.reports.tables import terminal_tables

    folder = run.store.folder
    for table in terminal_tables(run.settings):
        console.print(table)
    if run.updates:
        console.print(updates_table(run.updates, run.scale))
        for line in found_words(run.updates):
            console.print(line)
    if len(run.indices):
        from leakbench.reports.index import correlations, index_and_leakage, index_tables

        for table in index_tables(run.indices):
            console.print(table)
        for line in correlations(index_and_leakage(run.indices, run.settings)):
            console.print(line)
    console.print(f"rows     {folder / 'trials.parquet'}")
    rest = f"`leakbench csv {folder}` and `leakbench report {folder}` write the rest"
    with writing_reports(folder, f"the rows are stored: {rest}"):
        console.print(f"csv      {write_csv(run.rows, folder / 'trials.csv')}")
        if figures:
            from leakbench.reports.figures import write_figures  # brings in matplotlib: a second
            from leakbench.reports.page import write_page

            drawn = write_figures(run)
            for figure in drawn:
                console.print(f"figure   {figure.paths[0]}")
            for path in write_pictures(run.updates, folder / "figures"):
                console.print(f"{'text' if path.suffix == '.txt' else 'picture':<8} {path}")
            console.print(f"page     {write_page(run, drawn)}")
    for text in sentences(run.updates, run.scale):
        console.print(text)
    return show_failures(run.rows, "trial", console)
