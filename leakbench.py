"""The command line of LeakBench."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from pandas import DataFrame

    from sweeps.executors import Executor
    from sweeps.plan import Plan
    from sweeps.spec import Sweep
    from sweeps.store import Store

USER_ERROR = 2  # exit status: nothing was run, the input has to change
TRIALS_FAILED = 1  # exit status: the sweep is done, and some of its rows are errors
STOPPED = 3  # exit status: the sweep broke off; what is finished is stored
INTERRUPTED = 130  # exit status: as shells report Ctrl-C
LISTED = 20  # trials that a dry run names


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    from defenses.errors import StoppedError, UserError  # brings in PyTorch: not for `--help`

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: batch systems send it
    command: Callable[[argparse.Namespace, Console], int] = options.command
    try:
        return command(options, Console(soft_wrap=True, highlight=False, markup=False))
    except UserError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return STOPPED if isinstance(error, StoppedError) else USER_ERROR
    except KeyboardInterrupt:
        print("stopped before anything was run", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"{error.filename or 'leakbench'}: {error.strerror or error}", file=sys.stderr)
        return STOPPED


def make_parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    parser = argparse.ArgumentParser(
        prog="leakbench", description="Attacks shared gradients, and shows which defenses stop it."
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    sweep = verbs.add_parser("sweep", help="run the attacks that a sweep file describes")
    sweep.add_argument("file", type=Path, metavar="FILE", help="such as sweeps/quick.yaml")
    sweep.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    sweep.add_argument("--quick", action="store_true", help="with what the file has under `quick`")
    sweep.add_argument("--fresh", action="store_true", help="only if the folder of the run is empty")
    sweep.add_argument("--retry", choices=["errors"], help="run failed trials again, too")
    add_workers(sweep)
    sweep.add_argument("--slots", type=positive, metavar="N", help="trials a worker attacks at once")
    sweep.add_argument(
        "--executor",
        choices=["joblib", "dask", "inline"],
        default="joblib",
        help="joblib: a process a worker (default); dask: a cluster; inline: in this process, for debugging",
    )
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of dask, such as tcp://10.0.0.1:8786")
    add_data_root(sweep)
    sweep.add_argument(
        "--dry-run", action="store_true", help="show what would run and what it would take; run nothing"
    )
    sweep.add_argument("--plan", metavar="gpus=N|cores=N", help="with --dry-run: on a machine with so many")
    sweep.set_defaults(command=run_sweep)

    utility = verbs.add_parser("utility", help="train models with defended gradients, and test them")
    utility.add_argument("file", type=Path, metavar="FILE", help="a sweep file with a `training` in it")
    utility.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME-OF-FILE")
    utility.add_argument("--quick", action="store_true", help="with what the file has under `quick`")
    utility.add_argument("--retry", choices=["errors"], help="run failed trainings again, too")
    add_workers(utility)
    add_data_root(utility)
    utility.set_defaults(command=run_utility)

    paper = verbs.add_parser("paper", help="the DLG paper's defense figures and tables, in runs/paper")
    paper.add_argument(
        "--quick", action="store_true", help="few images, 10 minutes on 2 cores; the rest later"
    )
    add_workers(paper)
    paper.set_defaults(command=run_paper)

    for name, command, text in (
        ("status", show_status, "how far a run is, from another terminal or later"),
        ("figures", draw_figures, "draw the figures of a run"),
        ("csv", write_table, "write the rows of a run as CSV"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("folder", type=Path, metavar="DIR", help="the folder of a run")
        verb.set_defaults(command=command)

    verbs.add_parser(
        "list", help="every defense, data set, model and attack, with its settings"
    ).set_defaults(command=show_list)
    doctor = verbs.add_parser("doctor", help="versions, devices, data found, and what is missing")
    add_data_root(doctor)
    doctor.set_defaults(command=show_doctor)
    return parser


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options that say how many processes work, and where."""
    parser.add_argument("--jobs", type=positive, metavar="N", help="workers; default: one a GPU or core")
    parser.add_argument("--device", default="auto", help="auto, cpu, or cuda:0,cuda:1,... (default: auto)")


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """The option that says where data sets lie."""
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where data sets lie that do not come with leakbench (default: data)",
    )


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


# The verbs import what they need themselves: `--help` and typing errors answer at once.


def run_sweep(options: argparse.Namespace, console: Console) -> int:
    """`leakbench sweep`: run what is missing, then the table, the CSV and the figures."""
    from defenses.errors import UserError
    from sweeps.checks import load_sweep
    from sweeps.executors import make_executor
    from sweeps.rehearsal import rehearse
    from sweeps.store import Store

    if options.plan and not options.dry_run:
        raise UserError("--plan: expected --dry-run with it: it predicts, and runs nothing")
    download = not options.dry_run
    rehearse(options.file, options.data_root, download, options.quick)
    sweep = load_sweep(options.file, options.data_root, download, options.quick)
    jobs, timeout = options.jobs, sweep.trial_timeout
    executor = make_executor(options.executor, options.device, jobs, options.scheduler, timeout)
    folder = options.out or Path("runs") / options.file.stem
    store = Store.open_for(folder, sweep, options.fresh, create=not options.dry_run)
    if not sweep.datasets:
        text = f"{options.file}: datasets: expected images to attack, found none"
        raise UserError(f"{text}; `leakbench utility {options.file}` trains what it describes")
    console.print(f"{options.file}: {sweep.describe()}")
    for notice in sweep.notices:
        console.print(f"note: {notice}")
    if options.dry_run:
        return show_forecast(options, sweep, store, executor, console)
    with store.lock():
        try:
            run_missing(options, sweep, store, executor, console)
        except KeyboardInterrupt:
            console.print("stopped; what is finished is stored: the same command runs the rest")
            return INTERRUPTED
        return show_results(store, console)


def run_missing(
    options: argparse.Namespace, sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> None:
    """Run what has no row yet, and say what is done with what."""
    from bench.trial import Conditions
    from sweeps.executors.devices import describe_workers
    from sweeps.plan import plan
    from sweeps.progress import show_progress
    from sweeps.resources import choose
    from sweeps.runner import run

    todo = plan(sweep, store.statuses(), retry_errors=options.retry == "errors")
    for line in describe_plan(todo, store):
        console.print(line)
    if not todo:
        store.begin(sweep, [], todo.kept, todo.left_out)
        return
    resources, memory = choose(todo, executor.devices, executor.free(), options.slots, options.data_root)
    conditions = Conditions(resources, options.data_root, sweep.snapshot_every)
    console.print(describe_workers(executor, resources, str(memory)))
    store.begin(sweep, executor.devices, todo.kept, todo.left_out)
    with show_progress(console, todo) as progress:
        run(todo, store, executor, conditions, progress)


def describe_plan(todo: "Plan", store: "Store") -> Iterator[str]:
    """What is there already, a line a fact; nothing for a new folder."""
    from sweeps.manifest import other_versions

    if todo.kept or todo.retried:
        again = f", {len(todo.retried)} of them again after an error" if todo.retried else ""
        yield f"{store.folder}: {todo.kept} trials are there already, {len(todo)} to run{again}"
    if todo.left_out:
        text = "of before that the file no longer asks for: kept, but in no table"
        yield f"note: {len(todo.left_out)} row{'s' * (len(todo.left_out) > 1)} {text}"
    for package in other_versions(store.manifest()) if todo and todo.kept else []:
        yield f"note: {package}: rows of two versions may differ in their last digits"


def show_forecast(
    options: argparse.Namespace, sweep: "Sweep", store: "Store", executor: "Executor", console: Console
) -> int:
    """`leakbench sweep --dry-run`: what would run, and what it would take."""
    from sweeps.forecast import forecast, workers_of
    from sweeps.plan import plan
    from sweeps.resources import choose

    workers = executor.devices
    if options.plan:
        workers = workers[:1] * workers_of(options.plan, workers[0])
    todo = plan(sweep, store.statuses(), retry_errors=options.retry == "errors")
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
    console.print(f"{len(todo)} trials would run; nothing was written")
    return 0


def run_utility(options: argparse.Namespace, console: Console) -> int:
    """`leakbench utility`: train what is missing, then the table of accuracies."""
    from reports.tables import utility_tables, write_csv
    from sweeps.checks import load_sweep
    from sweeps.executors.devices import describe_devices, find_devices, worker_devices
    from sweeps.rehearsal import rehearse
    from sweeps.store import Store
    from sweeps.training import check_training, train

    devices = worker_devices(find_devices(options.device), options.jobs)
    rehearse(options.file, options.data_root, quick=options.quick)
    sweep = load_sweep(options.file, options.data_root, quick=options.quick)
    check_training(sweep, options.data_root)
    store = Store.open_for(options.out or Path("runs") / options.file.stem, sweep)
    console.print(f"{options.file}: {sweep.describe_training()}; {describe_devices(devices)}")
    with store.lock():
        try:
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


def run_paper(options: argparse.Namespace, console: Console) -> int:
    """`leakbench paper`: run each file of sweeps/paper as far as it is missing, then write the report."""
    import sweeps
    from reports.paper.report import SWEEPS, TRAININGS, write_report

    folder = Path("runs") / "paper"  # where sweeps/paper/trained.yaml looks for checkpoints
    passed = ["--device", options.device]
    passed += ["--quick"] if options.quick else []
    passed += ["--jobs", str(options.jobs)] if options.jobs else []
    worst = 0
    for name in (*TRAININGS, *SWEEPS):
        file = Path(sweeps.__file__).parent / "paper" / f"{name}.yaml"
        verb = "utility" if name in TRAININGS else "sweep"
        own = make_parser().parse_args([verb, str(file), "--out", str(folder / name), *passed])
        status: int = own.command(own, console)
        if status == INTERRUPTED:
            return status
        worst = max(worst, status)
    for path in write_report(folder):
        if path.suffix != ".pdf":
            console.print(f"report   {path}")
    return worst


def show_results(store: "Store", console: Console) -> int:
    """The table of a finished sweep, and the paths of what was written."""
    from reports.figures import write_figures
    from reports.tables import terminal_tables, write_csv

    rows = store.rows()
    for table in terminal_tables(rows, store.scale, store.histories):
        console.print(table)
    console.print(f"rows     {store.folder / 'trials.parquet'}")
    with writing_reports(store.folder):
        console.print(f"csv      {write_csv(rows, store.folder / 'trials.csv')}")
        for path in write_figures(store):
            if path.suffix == ".png":
                console.print(f"figure   {path} (and .pdf)")
    return show_failures(rows, "trial", console)


def show_failures(rows: "DataFrame", what: str, console: Console) -> int:
    """Why rows are errors, if some are; the exit status."""
    failed = rows[rows["status"] == "error"]
    for reason, count in failed["reason"].value_counts().items():
        console.print(f"{count} {what}{'s' * (count > 1)} failed: {reason}", style="red")
    if len(failed):
        console.print("the same command with --retry errors runs them again")
    return TRIALS_FAILED if len(failed) else 0


@contextmanager
def writing_reports(folder: Path) -> Iterator[None]:
    """A disk that takes no more figures is no reason for a traceback."""
    from defenses.errors import StoppedError

    try:
        yield
    except OSError as error:
        text = (
            f"{folder}: tables and figures cannot be written: {error.strerror or error}; the rows are stored"
        )
        again = f"`leakbench csv {folder}` and `leakbench figures {folder}` write the rest"
        raise StoppedError(f"{text}: {again}") from error


def draw_figures(options: argparse.Namespace, console: Console) -> int:
    """`leakbench figures`."""
    from reports.figures import write_figures
    from sweeps.store import Store

    with writing_reports(options.folder):
        for path in write_figures(Store.existing(options.folder)):
            console.print(str(path))
    return 0


def write_table(options: argparse.Namespace, console: Console) -> int:
    """`leakbench csv`."""
    from reports.tables import write_csv
    from sweeps.store import Store

    store = Store.existing(options.folder)
    with writing_reports(options.folder):
        console.print(str(write_csv(store.rows(), store.folder / "trials.csv")))
    return 0


def show_status(options: argparse.Namespace, console: Console) -> int:
    """`leakbench status`."""
    from reports.status import status
    from sweeps.store import Store

    for line in status(Store.existing(options.folder)):
        console.print(line)
    return 0


def show_list(_options: argparse.Namespace, console: Console) -> int:
    """`leakbench list`."""
    from reports.listing import listing

    for line in listing():
        console.print(line)
    return 0


def show_doctor(options: argparse.Namespace, console: Console) -> int:
    """`leakbench doctor`."""
    from reports.doctor import diagnosis

    for line in diagnosis(options.data_root):
        console.print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
