"""`leakbench paper`: the DLG paper's defense figures and tables."""

import argparse
from pathlib import Path

from rich.console import Console

from commands import INTERRUPTED, sweep, utility
from commands.common import Verbs, add_workers, call


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    paper = verbs.add_parser("paper", help="the DLG paper's defense figures and tables, in runs/paper")
    paper.add_argument(
        "--quick", action="store_true", help="few images, 10 minutes on 2 cores; the rest later"
    )
    add_workers(paper)
    paper.set_defaults(command=run_paper)


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
        arguments = [str(file), "--out", str(folder / name), *passed]
        if name in TRAININGS:
            status = call(utility.add, ["utility", *arguments], console)
        else:
            status = call(sweep.add, ["sweep", "--no-figures", *arguments], console)
        if status == INTERRUPTED:
            return status
        worst = max(worst, status)
    for path in write_report(folder):
        if path.suffix != ".pdf":
            console.print(f"report   {path}")
    return worst
