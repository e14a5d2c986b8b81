"""`leakbench paper`: the DLG paper's defense figures and tables."""

import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from leakbench.commands import sweep, utility
from leakbench.commands.common import Verbs, add_workers, run_options


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    paper = verbs.add_parser("paper", help="the DLG paper's defense figures and tables, in runs/paper")
    paper.add_argument(
        "--quick",
        action="store_true",
        help="few images, 10 minutes on 2 cores; a later run adds the rest",
    )
    paper.add_argument(
        "--sweeps",
        type=Path,
        metavar="DIR",
        help="a folder with sweep files of the same names (default: those of leakbench)",
    )
    add_workers(paper)
    paper.set_defaults(command=run_paper)


def run_paper(options: argparse.Namespace, console: Console) -> int:
    """`leakbench paper`: run what is missing of each file of sweeps/paper, then write the report."""
    from leakbench import sweeps
    from leakbench.bench.vocabulary import INSTALL
    from leakbench.reports.paper.report import SWEEPS, TEXT_SWEEPS, TEXT_TRAINED, TRAINED, write_report

    folder = Path("runs") / "paper"  # where sweeps/paper/trained.yaml looks for checkpoints
    source = options.sweeps or Path(sweeps.__file__).parent / "paper"
    names = [*TRAINED, *SWEEPS]
    if importlib.util.find_spec("transformers"):
        names += [TEXT_TRAINED, *TEXT_SWEEPS]
    else:
        console.print(f"texts    left out: they need {INSTALL}", highlight=False, markup=False)
    worst = 0
    for name in names:
        file, own = source / f"{name}.yaml", replace(run_options(options), out=folder / name)
        if name in (*TRAINED, TEXT_TRAINED):
            status = utility.train_file(file, own, console)
        else:
            status = sweep.sweep_file(file, own, console, figures=False)
        worst = max(worst, status)
    for path in write_report(folder):
        if path.suffix != ".pdf":
            console.print(f"report   {path}")
    return worst
