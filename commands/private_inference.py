"""`leakbench private-inference`: images classified on shares, compared with the clear."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, add_data_root, positive, writing_reports
from leakbench.commands.private_setting import BITS, DIGITS, jobs_of, subjects_of

if TYPE_CHECKING:
    from leakbench.bench.private.measure import Results

ENGINES = ("dealer", "spu")


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    verb = verbs.add_parser(
        "private-inference", help="classify secret-shared images by a secret-shared network"
    )
    verb.add_argument(
        "model", nargs="+", metavar="MODEL", help="such as 'lenet(activation=relu, weights=default)'"
    )
    verb.add_argument(
        "--weights", type=Path, metavar="FILE", help="the network's weights (default: train it once)"
    )
    verb.add_argument("--dataset", default="mnist-5k", help="default: mnist-5k")
    verb.add_argument("--train", default="0-3999", metavar="I", help="images trained on (default: 0-3999)")
    verb.add_argument(
        "--indices", default="4000-4999", metavar="I", help="images to classify (default: 4000-4999)"
    )
    verb.add_argument("--digits", metavar="D", help=f"decimal digits (default: {DIGITS}, with --bits {BITS})")
    verb.add_argument("--bits", metavar="B", help="binary digits, such as 16 or 8,16")
    verb.add_argument(
        "--engine", action="append", choices=ENGINES, help="default: dealer; may be given several times"
    )
    verb.add_argument(
        "--spu",
        type=Path,
        default=Path(".venv-spu"),
        metavar="DIR",
        help="virtual environment with SPU (default: .venv-spu)",
    )
    verb.add_argument(
        "--batch", type=positive, default=100, metavar="N", help="images per batch (default: 100)"
    )
    verb.add_argument(
        "--out", type=Path, default=Path("runs/private-inference"), metavar="DIR",
        help="default: runs/private-inference",
    )  # fmt: skip
    add_data_root(verb)
    verb.set_defaults(command=run_private_inference)


def run_private_inference(options: argparse.Namespace, console: Console) -> int:
    """`leakbench private-inference`: a table for each network, what parties see, and a figure."""
    from rich.progress import Progress

    from leakbench.bench.private.measure import Results, measure
    from leakbench.core.process import prepare_worker

    jobs = jobs_of(options)
    prepare_worker()
    subjects = subjects_of(options, jobs, console)
    results = Results()
    total = len(jobs) * sum(len(subject.images) for subject in subjects)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            advance = partial(progress.advance, progress.add_task("classified", total=total))
            for subject in subjects:
                for line in measure(subject, jobs, options.batch, results, advance):
                    progress.console.print(line)
    except KeyboardInterrupt:
        if results.rows:
            _report(results, options.out, console)
        raise
    _report(results, options.out, console)
    return 0


def _report(results: "Results", folder: Path, console: Console) -> None:
    """Tables on the terminal, and everything in the folder."""
    import pandas as pd

    from leakbench.reports.figures.private import draw_private
    from leakbench.reports.private import inference_tables, view_lines
    from leakbench.reports.style import save

    tables = {name: pd.DataFrame(each) for name, each in vars(results).items() if each}
    for table in inference_tables(tables["rows"], tables["confusions"]):
        console.print(table)
    for text in view_lines(tables.get("views", pd.DataFrame())):
        console.print(text)
    with writing_reports(folder, "no rows are stored: the same command classifies again"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, each in tables.items():
            each.to_csv(folder / f"{name}.csv", index=False)
            console.print(f"{name:10} {folder / name}.csv")
        console.print(f"figure     {save(draw_private(tables['rows']), folder, 'private')[0]}")
