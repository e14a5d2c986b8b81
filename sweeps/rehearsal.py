"""A user's own code is first tried in a separate process, in case it ends the process."""

import re
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from joblib.externals.loky.backend.context import get_context

from leakbench.core.errors import UserError
from leakbench.core.interrupts import start_quietly
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.executors.processes import how_it_ended, kill
from leakbench.sweeps.plan import plan
from leakbench.sweeps.resources import choose
from leakbench.sweeps.spec import Changes

_NAMES_CODE = re.compile(r"[^\n\"'\[\]{},]*\.py(?=:\w)")


def rehearse(
    file: Path,
    data_root: Path,
    download: bool = True,
    changes: Changes = Changes(),  # noqa: B008  # frozen
) -> None:
    """Check a sweep that names a user's code in a separate process, which that code may end.

    Raises:
        UserError: the code ends it, or the sweep has problems (see `load_sweep`).
    """
    named = files_named(file.read_text(errors="replace")) if file.is_file() else []
    if not named:
        return
    context = get_context("loky")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_rehearse, args=(file, data_root, download, changes, there), daemon=True)
    start_quietly(process)
    there.close()
    try:
        problems = here.recv()
    except EOFError:
        process.join()
        how = how_it_ended(process.exitcode)
        text = f"{file}: expected code that can be checked, found code that ends its process"
        raise UserError(f"{text} ({how}); look at {', '.join(named)}") from None
    finally:
        kill(process)
    if problems:
        raise UserError(*problems)


def files_named(text: str) -> list[str]:
    """The users' files with classes that a sweep file names."""
    found = (name.rpartition(": ")[2].strip(" -") for name in _NAMES_CODE.findall(text))
    return sorted(set(found))


def _rehearse(file: Path, data_root: Path, download: bool, changes: Changes, there: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process handles Ctrl-C
    try:
        sweep = load_sweep(file, data_root, download, changes)
        choose(plan(sweep, {}, ahead=True), ["cpu"], None, None, data_root)
    except UserError as error:
        there.send(error.problems)
    else:
        there.send([])
