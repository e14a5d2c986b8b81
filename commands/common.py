"""What several verbs share: options, and how a run ends."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import TRIALS_FAILED
from leakbench.sweeps import EXECUTORS

if TYPE_CHECKING:
    from pandas import DataFrame

    from leakbench.sweeps.options import RunOptions

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = object


PROTOCOL = "v1"  # of the leaderboard, the newest
USER_FILE = re.compile(r"(?P<file>[^()]+\.py)(?P<rest>(:.*)?)", re.DOTALL)  # with or without a class
STORED = "the rows are stored: the same command writes the rest"


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options that say how many processes work, and where."""
    parser.add_argument("--jobs", type=positive, metavar="N", help="workers (default: one per GPU or core)")
    parser.add_argument("--device", default="auto", help="auto, cpu, or cuda:0,cuda:1,... (default: auto)")


def add_executor(parser: argparse.ArgumentParser) -> None:
    """The options that say what kind of workers they are."""
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="joblib",
        help="joblib: worker processes (default); dask: a cluster; inline: in this process, for debugging",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="address of the dask scheduler, such as tcp://10.0.0.1:8786"
    )


def add_again(parser: argparse.ArgumentParser, noun: str, names: str) -> None:
    """The options that say which of the stored rows are not good enough."""
    example = "prune*" if "defense" in names else "dlg*"
    parser.add_argument("--retry", choices=["errors"], help=f"run failed {noun}s again, too")
    parser.add_argument(
        "--force",
        action="append",
        metavar="PATTERN",
        help=f"run again the {noun}s whose {names} matches a pattern, such as '{example}'",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """The option that bounds how long a trial may take."""
    parser.add_argument(
        "--trial-timeout",
        dest="timeout",
        type=duration,
        metavar="TIME",
        help="after which a trial without a result is an error, such as 90s or 10min",
    )


def add_reuse(parser: argparse.ArgumentParser) -> None:
    """The option that names runs to take rows from."""
    parser.add_argument(
        "--reuse",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another run, whose rows are taken for equal trials; may be given several times",
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """The option that names the folder of the datasets that are not bundled."""
    parser.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the datasets that are not bundled with leakbench (default: data)",
    )


@contextmanager
def problems_of(option: str) -> Iterator[None]:
    """Turn unusable settings into error lines that begin with the option that gave them."""
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


def duration(text: str) -> float:
    """Seconds, for argparse; see `in_seconds`."""
    from leakbench.core.words import in_seconds

    try:
        return in_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text!r}") from error


def show_failures(rows: "DataFrame", what: str, console: Console) -> int:
    """Print why rows failed, if any did; returns the exit status."""
    from leakbench.reports.selection import with_result

    failed = rows.drop(with_result(rows).index)
    for reason, count in failed["reason"].value_counts().items():
        console.print(f"{count} {what}{'s' * (count > 1)} failed: {reason}", style="red")
    if len(failed):
        console.print("the same command with --retry errors runs them again")
    return TRIALS_FAILED if len(failed) else 0


@contextmanager
def writing_reports(folder: Path, remedy: str = STORED) -> Iterator[None]:
    """Turn a failed write, such as on a full disk, into one line, which ends with the remedy."""
    from leakbench.core.errors import StoppedError

    try:
        yield
    except OSError as error:
        text = f"{folder}: tables and figures cannot be written: {error.strerror or error}"
        raise StoppedError(f"{text}; {remedy}") from error


def run_options(options: argparse.Namespace) -> "RunOptions":
    """How to run a sweep, from the typed options; options that a verb lacks keep their defaults."""
    from dataclasses import fields

    from leakbench.sweeps.options import RunOptions

    typed = {field.name: getattr(options, field.name, None) for field in fields(RunOptions)}
    for several in ("reuse", "force"):
        typed[several] = tuple(typed[several] or ())
    typed["retry"] = bool(typed["retry"])
    return RunOptions(**{name: value for name, value in typed.items() if value is not None})


def file_beside(folder: Path, option: str = "--out") -> Path:
    """The sweep file next to a run's folder.

    Raises:
        UserError: a folder without a name of its own, such as `.`.
    """
    from leakbench.core.errors import UserError

    if folder.name in ("", ".."):
        raise UserError(f"{option}: expected the name of a folder, got {str(folder)!r}")
    return folder.with_name(f"{folder.name}.yaml")


def named_after(name: str) -> str:
    """A folder's name: `prune-ratio-0.5` of `prune(ratio=0.5)`, `my_defense` of `my/my_defense.py:Mine`."""
    match = USER_FILE.fullmatch(name)
    text = Path(match["file"]).stem if match else name
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-")
