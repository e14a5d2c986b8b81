"""`leakbench utility`: train models with defended gradients, and test them."""

import argparse
from pathlib import Path

from rich.console import Console

from leakbench.commands import INTERRUPTED
from leakbench.commands.common import (
    Verbs,
    add_data_root,
    add_reuse,
    add_workers,
    describe_reuse,
    show_failures,
    writing_reports,
)


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    utility = verbs.add_parser("utility", help="train models with defended gradients, and test them")
    utility.add_argument("file", type=Path, metavar="FILE", help="a sweep file with a `training` in it")
    utility.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    utility.add_argument("--quick", action="store_true", help="with what the file has under `quick`")
    add_reuse(utility)
    utility.add_argument("--retry", choices=["errors"], help="run failed trainings again, too")
    add_workers(utility)
    add_data_root(utility)
    utility.set_defaults(command=run_utility)


def run_utility(options: argparse.Namespace, console: Console) -> int:
    """`leakbench utility`: train what is missing, then the table of accuracies."""
    from leakbench.bench.hardware import hardware_of
    from leakbench.reports.csv_file import write_csv
    from leakbench.reports.utility import utility_tables
    from leakbench.sweeps.checks import load_sweep
    from leakbench.sweeps.executors.devices import describe_devices, find_devices, worker_devices
    from leakbench.sweeps.rehearsal import rehearse
    from leakbench.sweeps.reuse import reuse_trainings
    from leakbench.sweeps.spec import Changes
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.training import check_training, train

    devices = worker_devices(find_devices(options.device), options.jobs)
    changes = Changes(quick=options.quick)
    rehearse(options.file, options.data_root, changes=changes)
    sweep = load_sweep(options.file, options.data_root, changes=changes)
    check_training(sweep, options.data_root)
    store = Store.open_for(options.out or Path("runs") / options.file.stem, sweep)
    console.print(f"{options.file}: {sweep.describe_training()}; {describe_devices(devices)}")
    with store.lock():
        try:
            for line in describe_reuse(
                reuse_trainings(sweep, store, options.reuse, set(map(hardware_of, devices)))
            ):
                console.print(line)
            for line in train(sweep, store, devices, options.data_root, options.retry == "errors"):
                console.print(line)
        except KeyboardInterrupt:
            console.print("stopped; what is finished is stored: the same command runs the rest")
            return INTERRUPTED
    rows = store.trainings()
    for table in utility_tables(rows):
        console.print(table)
    console.print(f"rows     {store.folder / 'trainings.parquet'}")
    with writing_reports(store.folder):
        console.print(f"csv      {write_csv(rows, store.folder / 'trainings.csv')}")
    return show_failures(rows, "training", console)
