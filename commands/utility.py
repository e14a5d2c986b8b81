"""`leakbench utility`: train models with defended gradients, and test them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import (
    Verbs,
    add_again,
    add_data_root,
    add_executor,
    add_reuse,
    add_workers,
    duration,
    run_options,
    show_failures,
    writing_reports,
)
from leakbench.commands.running import load, run_trainings

if TYPE_CHECKING:
    from leakbench.sweeps.options import RunOptions
    from leakbench.sweeps.store import Store


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    utility = verbs.add_parser("utility", help="train models with defended gradients, and test them")
    utility.add_argument("file", type=Path, metavar="FILE", help="a sweep file with a `training` section")
    utility.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    utility.add_argument(
        "--quick", action="store_true", help="use the values that the file has under `quick`"
    )
    utility.add_argument("--fresh", action="store_true", help="run only if the folder of the run is empty")
    add_reuse(utility)
    add_again(utility, "training", "defense or model")
    add_workers(utility)
    add_executor(utility)
    utility.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="time limit of a training, such as 1h; replaces the file's",
    )
    add_data_root(utility)
    utility.set_defaults(command=run_utility)


def run_utility(options: argparse.Namespace, console: Console) -> int:
    """`leakbench utility`."""
    return train_file(options.file, run_options(options), console)


def train_file(file: Path, options: "RunOptions", console: Console) -> int:
    """Train what is missing, then the table of accuracies; the exit status."""
    return show_accuracies(run_trainings(load(file, options), options, console), console)


def show_accuracies(store: "Store", console: Console) -> int:
    """The table of finished trainings, and the paths of what was written; the exit status."""
    from leakbench.reports.csv_file import write_csv
    from leakbench.reports.utility import utility_tables
    from leakbench.sweeps.tables import TRAININGS

    rows = store.rows(TRAININGS)
    for table in utility_tables(rows):
        console.print(table)
    console.print(f"rows     {store.folder / 'trainings.parquet'}")
    rest = f"`leakbench utility FILE --out {store.folder}` writes the rest"
    with writing_reports(store.folder, f"the rows are stored: {rest}"):
        console.print(f"csv      {write_csv(rows, store.folder / 'trainings.csv')}")
    return show_failures(rows, "training", console)
