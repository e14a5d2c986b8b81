"""Commands for an existing run: `leakbench status`, `tidy`, `report`, `figures`, `csv`, `export`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, writing_reports

if TYPE_CHECKING:
    from leakbench.reports.run import Run

FORMATS = ("csv", "markdown", "latex", "png", "pdf", "svg", "bibtex")


def add(verbs: Verbs) -> None:
    """The verbs and their options."""
    for name, command, text in (
        ("status", show_status, "show how far a run is, from another terminal or later"),
        ("tidy", tidy_run, "remove rows that the sweep file no longer requests"),
        ("report", write_report, "write the page of a run: tables, pictures and figures"),
        ("figures", draw_figures, "draw the figures of a run"),
        ("csv", write_table, "write the rows of a run as CSV"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run")
        verb.set_defaults(command=command)
    export = verbs.add_parser("export", help="tables, figures and citations of a run, for a paper")
    export.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run")
    export.add_argument("--format", default=",".join(FORMATS), metavar="NAMES", help="default: %(default)s")
    export.add_argument("--out", type=Path, metavar="DIR", help="default: DIR/export")
    export.set_defaults(command=export_run)


def with_trials(folder: Path) -> "Run":
    """A run as reports read it; prints a line on stderr if it is under way.

    Raises:
        UserError: there is no run, or none of its trials has ended.
    """
    from leakbench.core.errors import UserError
    from leakbench.reports.run import Run
    from leakbench.reports.status import under_way
    from leakbench.sweeps.store import Store

    run = Run(Store.existing(folder))
    running = under_way(run.store)
    if run.rows.empty:
        remedy = running or f"`leakbench sweep FILE --out {folder}` runs them"
        raise UserError(f"{folder}: expected trials, found none; {remedy}")
    if running:
        print(f"{folder}: {running}", file=sys.stderr)  # stdout may be read by a program
    return run


def draw_figures(options: argparse.Namespace, console: Console) -> int:
    """`leakbench figures`."""
    from leakbench.reports.figures import write_figures
    from leakbench.reports.recorded import write_pictures

    run = with_trials(options.folder)
    with writing_reports(options.folder):
        paths = [path for figure in write_figures(run) for path in figure.paths]
        for path in (*paths, *write_pictures(run.updates, options.folder / "figures")):
            console.print(str(path))
    return 0


def write_report(options: argparse.Namespace, console: Console) -> int:
    """`leakbench report`."""
    from leakbench.reports.figures import write_figures
    from leakbench.reports.page import write_page

    run = with_trials(options.folder)
    with writing_reports(options.folder):
        console.print(str(write_page(run, write_figures(run))))
    return 0


def write_table(options: argparse.Namespace, console: Console) -> int:
    """`leakbench csv`."""
    from leakbench.reports.csv_file import write_csv

    run = with_trials(options.folder)
    with writing_reports(options.folder):
        console.print(str(write_csv(run.rows, options.folder / "trials.csv")))
    return 0


def export_run(options: argparse.Namespace, console: Console) -> int:
    """`leakbench export`."""
    from leakbench.core.errors import UserError
    from leakbench.core.registry import unknown_text
    from leakbench.reports.export import export

    formats = [each.strip() for each in options.format.split(",")]
    unknown = [unknown_text("format", each, FORMATS) for each in formats if each not in FORMATS]
    if unknown:
        raise UserError(*(f"--format: {text}" for text in unknown))
    run = with_trials(options.folder)
    with writing_reports(options.folder):
        for path in export(run, formats, options.out or options.folder / "export"):
            console.print(str(path))
    return 0


def tidy_run(options: argparse.Namespace, console: Console) -> int:
    """`leakbench tidy`."""
    from leakbench.sweeps.store import Store

    store = Store.existing(options.folder)
    with store.lock():
        unrequested = {table.name: len(keys) for table, keys in store.unrequested().items()}
        freed = store.tidy()
    what = " and ".join(
        f"{count} row{'s' * (count > 1)} of {table}" for table, count in unrequested.items() if count
    )
    removed = f"removed {what}, {freed / 1000:.0f} kB" if what else "nothing to remove"
    console.print(f"{options.folder}: {removed}")
    return 0


def show_status(options: argparse.Namespace, console: Console) -> int:
    """`leakbench status`."""
    from leakbench.reports.status import status
    from leakbench.sweeps.store import Store

    for line in status(Store.existing(options.folder)):
        console.print(line)
    return 0
