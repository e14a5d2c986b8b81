"""`leakbench compare`: attack and train with new defenses and known ones, and compare."""

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from leakbench.commands.common import (
    Verbs,
    add_data_root,
    add_workers,
    file_beside,
    named_after,
    problems_of,
    run_options,
)
from leakbench.commands.running import load, run_sweep, run_trainings
from leakbench.commands.sweep import show_results
from leakbench.commands.utility import show_accuracies

PREFIX = "compare-"
USUAL = {  # model and known defenses, for images and texts
    # Laplacian noise does the same as Gaussian noise of equal variance
    "images": ("lenet", ["gaussian", "prune"]),
    # one variance means something else for each tensor of a BERT, and most of an embedding's entries are 0
    "texts": (
        "bert(hidden=64, heads=2)",
        [
            "gaussian(relative=0.1)",
            "gaussian(relative=1)",
            "prune(ratio=0.9, count=nonzero)",
            "prune(ratio=0.99, count=nonzero)",
        ],
    ),
}
DECISIVE = ("budget", "model", "data")  # options that, with --against, determine the sweep file


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    compare = verbs.add_parser("compare", help="compare new defenses with known ones: leakage and accuracy")
    compare.add_argument(
        "defense",
        nargs="+",
        metavar="DEFENSE",
        help="file.py, file.py:Class or a known name, with all settings of its `grid`",
    )
    compare.add_argument(
        "--against",
        action="append",
        metavar="DEFENSE",
        help="a known defense; may be given several times (default: gaussian and prune; for texts relative"
        " noise, and pruning of what is not 0)",
    )
    compare.add_argument(
        "--budget",
        choices=["quick", "standard", "full"],
        default="quick",
        help="minutes, an hour, or a night on 2 cores (default: quick)",
    )
    compare.add_argument(
        "--model", help="a known one or file.py:Class (default: lenet; of texts a small bert)"
    )
    compare.add_argument(
        "--data",
        default="cifar10-sample",
        help="a known one, folder:PATH or text:FILE (default: cifar10-sample)",
    )
    compare.add_argument("--out", type=Path, metavar="DIR", help="default: runs/compare-DEFENSE")
    add_workers(compare)
    add_data_root(compare)
    compare.set_defaults(command=run_compare)


def run_compare(options: argparse.Namespace, console: Console) -> int:
    """`leakbench compare`: write the sweep file, run what earlier comparisons lack, and say who is ahead."""
    from leakbench.bench.datasets import DATASETS, open_dataset
    from leakbench.core.errors import UserError
    from leakbench.reports.comparison import RULE, standings
    from leakbench.reports.figures import write_figures
    from leakbench.reports.leaderboard import describe_trainings
    from leakbench.reports.page import write_page
    from leakbench.reports.run import Run
    from leakbench.sweeps.comparison import BUDGETS, Comparison, write_sweep
    from leakbench.sweeps.conformance import defenses_in
    from leakbench.sweeps.reuse import comparable

    new = [defense for name in options.defense for defense in defenses_in(name)]
    with problems_of("--data"):
        source = open_dataset(DATASETS.parse(options.data), options.data_root)
    model, against = USUAL[source.modality.name]
    options.model, options.against = options.model or model, options.against or against
    try:
        known = [defense for name in options.against for defense in defenses_in(name)]
    except UserError as error:
        raise UserError(*(f"--against: {problem}" for problem in error.problems)) from error
    comparison = Comparison(tuple(new), tuple(known), BUDGETS[options.budget], options.data, options.model)
    folder = options.out or Path("runs") / (PREFIX + "-".join(map(named_after, options.defense)))
    file = file_beside(folder)
    typed = [each for name in DECISIVE for each in (f"--{name}", getattr(options, name))]
    typed += [each for name in options.against for each in ("--against", name)]
    write_sweep(comparison.sweep(source), file, ["compare", *options.defense, *typed])
    earlier = comparable(sorted(path for path in folder.parent.glob(f"{PREFIX}*") if path != folder))
    own = replace(run_options(options), out=folder, reuse=tuple(earlier))
    asked = load(file, own)
    status = show_accuracies(run_trainings(asked, own, console), console)
    run = Run(run_sweep(asked, own, console))
    status = max(status, show_results(run, console, figures=False))
    console.print(describe_trainings(run.trainings))
    console.print(RULE)
    for setting in run.settings:
        for each in standings(setting.rows, setting.best, setting.trainings, run.scale, list(map(str, new))):
            console.print(f"  {each.describe({})}")
    console.print(f"page     {write_page(run, write_figures(run))}")
    return status
