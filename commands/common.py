"""What several verbs share: options, and how a run ends."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import INTERRUPTED, TRIALS_FAILED

if TYPE_CHECKING:
    from pandas import DataFrame

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = object


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options that say how many processes work, and where."""
    parser.add_argument("--jobs", type=positive, metavar="N", help="workers; default: one a GPU or core")
    parser.add_argument("--device", default="auto", help="auto, cpu, or cuda:0,cuda:1,... (default: auto)")


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """The option that names runs to take rows from."""
    parser.add_argument(
        "--reuse",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another run whose rows are taken where they are the same; may be given several times",
    )


def describe_reuse(taken: dict[Path, int]) -> Iterator[str]:
    """What was taken from where."""
    for folder, count in taken.items():
        yield f"{folder}: {count} row{'s' * (count > 1)} taken from there"


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """The option that says where data sets lie."""
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where data sets lie that do not come with leakbench (default: data)",
    )


@contextmanager
def problems_of(option: str) -> Iterator[None]:
    """Settings that cannot be used become lines that begin with the option they were given by."""
    from leakbench.core.configured import SettingError
    from leakbench.core.errors import UserError

    try:
        yield
    except SettingError as error:
        lines = (f"{setting}: {text}" if setting else text for setting, text in error.problems)
        raise UserError(*(f"{option}: {line}" for line in lines)) from error


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


def show_failures(rows: "DataFrame", what: str, console: Console) -> int:
    """Why rows are errors, if some are; the exit status."""
    from leakbench.reports.selection import with_result

    failed = rows.drop(with_result(rows).index)
    for reason, count in failed["reason"].value_counts().items():
        console.print(f"{count} {what}{'s' * (count > 1)} failed: {reason}", style="red")
    if len(failed):
        console.print("the same command with --retry errors runs them again")
    return TRIALS_FAILED if len(failed) else 0


@contextmanager
def writing_reports(folder: Path) -> Iterator[None]:
    """A disk that takes no more figures is no reason for a traceback."""
    from leakbench.core.errors import StoppedError

    try:
        yield
    except OSError as error:
        text = (
            f"{folder}: tables and figures cannot be written: {error.strerror or error}; the rows are stored"
        )
        again = f"`leakbench csv {folder}` and `leakbench figures {folder}` write the rest"
        raise StoppedError(f"{text}: {again}") from error


def call(add: Callable[[Verbs], None], arguments: list[str], console: Console) -> int:
    """Another verb, as if it were typed; returns its exit status."""
    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    options = parser.parse_args(arguments)
    status: int = options.command(options, console)
    return status


def call_each(commands: Iterable[tuple[Callable[[Verbs], None], list[str]]], console: Console) -> int:
    """Several verbs, one after the other until one is interrupted; returns the worst exit status."""
    worst = 0
    for add, arguments in commands:
        worst = max(worst, call(add, arguments, console))
        if worst == INTERRUPTED:
            break
    return worst


def typed_workers(device: str, jobs: int | None) -> list[str]:
    """What `add_workers` reads these from."""
    return ["--device", device, *(["--jobs", str(jobs)] if jobs else [])]
