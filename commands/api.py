"""`leakbench.run`: a sweep from Python, with all that the command line can do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from leakbench.commands.common import file_beside
from leakbench.commands.running import load, run_sweep
from leakbench.commands.sweep import show_results

if TYPE_CHECKING:
    from pandas import DataFrame


def run(
    sweep_file: Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    suite: str = "",
    exhaustive: bool = False,
    fresh: bool = False,
    reuse: Sequence[str | Path] = (),
    retry: bool = False,
    force: Sequence[str] = (),
    jobs: int | None = None,
    device: str = "auto",
    slots: int | None = None,
    trial_timeout: float | str | None = None,
    executor: str = "joblib",
    scheduler: str | None = None,
    data_root: str | Path = "data",
    figures: bool = False,
    quiet: bool = False,
    check: bool = True,
) -> "DataFrame":
    """Run the trials that a sweep still lacks, and return its rows, one per trial, as a DataFrame.

    Args:
        sweep_file: the path of a sweep file, or its content as a mapping.
        out: the run's folder; `runs/NAME-OF-FILE` by default, and required if `sweep_file` is a mapping.
        quick: whether to use the values that the file has under `quick`.
        suite: the name of a suite, whose attacks replace those of the file.
        exhaustive: whether victims that have leaked are attacked with the other attacks, too.
        fresh: whether the folder has to be empty.
        reuse: folders of other runs, whose rows are taken for equal trials.
        retry: whether failed trials are run again.
        force: patterns such as `prune*`: trials with such a defense, attack or other name run again.
        jobs: the number of workers; one per GPU or core by default.
        device: auto, cpu, or cuda:0,cuda:1,...
        slots: how many trials a worker attacks at once; chosen to fit by default.
        trial_timeout: seconds, or a text such as `10 min`, after which a trial without a result is an error;
            the file's value by default.
        executor: joblib, dask or inline.
        scheduler: the address of dask's scheduler, for `dask`.
        data_root: folder of the datasets that are not bundled with leakbench.
        figures: whether the tables, figures and the page are written into the folder.
        quiet: whether to print nothing.
        check: whether failed trials raise an error. If not, they are rows whose `status` is `error`.

    Raises:
        leakbench.UserError: with a line for everything that has to be changed.
        leakbench.FailedTrialsError: some trials failed; its `rows` are all rows of the sweep.
        KeyboardInterrupt: finished trials are stored, and the same call runs the rest.
    """
    from leakbench.core.errors import FailedTrialsError
    from leakbench.reports.run import Run
    from leakbench.reports.selection import with_result
    from leakbench.sweeps.options import RunOptions

    timeout = _checked(trial_timeout, jobs=jobs, slots=slots)
    options = RunOptions(
        out=None if out is None else Path(out), quick=quick, suite=suite, exhaustive=exhaustive, fresh=fresh,
        reuse=tuple(map(Path, reuse)), retry=retry, force=tuple(force), jobs=jobs, device=device, slots=slots,
        timeout=timeout, executor=executor, scheduler=scheduler, data_root=Path(data_root),
    )  # fmt: skip
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=quiet)
    finished = Run(run_sweep(load(_file_of(sweep_file, out), options), options, console))
    if figures:
        show_results(finished, console, figures=True)
    rows = finished.rows
    failed = rows.drop(with_result(rows).index)
    if check and len(failed):
        raise FailedTrialsError(rows, Counter(failed["reason"]))
    return rows


def _checked(trial_timeout: float | str | None, **counts: int | None) -> float | None:
    """The timeout in seconds; checks what the command line checks where it is typed.

    Raises:
        UserError: with a line for every problem.
    """
    from leakbench.core.errors import UserError
    from leakbench.core.words import in_seconds

    problems = [
        f"{name}: expected a whole number >= 1, got {count!r}"
        for name, count in counts.items()
        if count is not None and (type(count) is not int or count < 1)
    ]
    seconds = None
    try:
        seconds = None if trial_timeout is None else in_seconds(trial_timeout)
    except ValueError as error:
        problems.append(f"trial_timeout: {error}, got {trial_timeout!r}")
    if problems:
        raise UserError(*problems)
    return seconds


def _file_of(sweep: Mapping[str, Any] | str | Path, out: str | Path | None) -> Path:
    """The sweep file; a mapping is written to one next to the run's folder."""
    from leakbench.sweeps.comparison import write_own

    if not isinstance(sweep, Mapping):
        return Path(sweep)
    if out is None:
        raise TypeError("out: expected a folder for the run of a mapping, got None; pass out='runs/NAME'")
    file = file_beside(Path(out), "out")
    write_own(dict(sweep), file, "leakbench.run")
    return file
