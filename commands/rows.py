"""`leakbench rows`: rows of a run, selected and sorted, in a form for people or programs."""

import argparse
from pathlib import Path

from rich.console import Console

from leakbench.commands.common import Verbs
from leakbench.commands.runs import with_trials

TABLE = "table"


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    rows = verbs.add_parser("rows", help="print rows of a run: a table, CSV, TSV, JSON or Markdown")
    rows.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run, finished or under way")
    rows.add_argument("--where", metavar="CONDITION", help="such as 'ssim > 0.5 and defense == \"int8\"'")
    rows.add_argument(
        "--columns", metavar="NAMES", help="a,b,... (default: all; in a table, those in which rows differ)"
    )
    rows.add_argument("--sort", metavar="NAMES", help="sort by these columns, ascending")
    rows.add_argument("--reverse", action="store_true", help="reverse the order of the rows")
    rows.add_argument(
        "--format", choices=[TABLE, "csv", "tsv", "json", "md"], default=TABLE, help="default: table"
    )
    rows.set_defaults(command=show_rows)


def show_rows(options: argparse.Namespace, console: Console) -> int:
    """`leakbench rows`."""
    from leakbench.reports.query import where
    from leakbench.reports.rows import FORMATS, known_columns, print_table, telling

    run = with_trials(options.folder)
    rows = run.rows
    if options.where is not None:
        rows = where(rows, options.where)
    if options.sort:
        rows = rows.sort_values(known_columns(rows, options.sort, "--sort"), kind="stable")
    if options.reverse:
        rows = rows[::-1]
    if options.columns:
        rows = rows[known_columns(rows, options.columns, "--columns")]
    elif options.format == TABLE:
        rows = rows[telling(rows, run.scale.modality)]
    if options.format == TABLE:
        print_table(rows, console)
    else:
        console.file.writelines(FORMATS[options.format](rows))
    console.file.flush()  # so that a closed pipe is noticed here
    return 0
