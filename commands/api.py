"""`leakbench.run`: a sweep from Python, as from the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from leakbench.commands import INTERRUPTED, sweep
from leakbench.commands.common import call, typed_workers

if TYPE_CHECKING:
    from pandas import DataFrame


def run(
    sweep_file: Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    device: str = "auto",
    data_root: str | Path = "data",
    quiet: bool = False,
) -> "DataFrame":
    """Run what a sweep still lacks, and give its table: one row a trial, columns as `bench.row.Row`.

    Args:
        sweep_file: the path of a sweep file, or what would stand in one.
        out: the folder of the run; `runs/NAME-OF-FILE` where a file is given, and needed where none is.
        jobs: workers; one a GPU or core where nothing is said.
        device: auto, cpu, or cuda:0,cuda:1,...
        data_root: where data sets lie that do not come with leakbench.
        quiet: whether to print nothing.

    Raises:
        leakbench.UserError: with a line for everything that has to be changed.
        KeyboardInterrupt: what is finished is stored, and the same call runs the rest.
    """
    import yaml

    from leakbench.sweeps.store import Store

    if isinstance(sweep_file, Mapping):
        if out is None:
            raise TypeError("out: expected a folder for the run, as no sweep file gives it a name")
        file = Path(f"{out}.yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(dict(sweep_file), sort_keys=False))
    else:
        file = Path(sweep_file)
    folder = Path(out) if out is not None else Path("runs") / file.stem
    arguments = ["sweep", str(file), "--out", str(folder), "--no-figures", "--data-root", str(data_root)]
    arguments += typed_workers(device, jobs)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=quiet)
    if call(sweep.add, arguments, console) == INTERRUPTED:
        raise KeyboardInterrupt
    return Store.existing(folder).rows()
