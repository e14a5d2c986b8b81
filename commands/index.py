"""`leakbench index`: how much the gradients of networks determine, without an attack."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, add_data_root, problems_of, writing_reports

if TYPE_CHECKING:
    from leakbench.bench.datasets import Dataset
    from leakbench.bench.models import Model
    from leakbench.sweeps.indices import Indices, Probe


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    index = verbs.add_parser("index", help="how much a network's gradient determines, without attacks")
    index.add_argument(
        "model", nargs="+", metavar="MODEL", help="such as lenet, 'cnn(channels=[4, 8])' or net.py:Net"
    )
    index.add_argument(
        "--dataset", default="cifar10-sample", help="dataset of the image (default: cifar10-sample)"
    )
    index.add_argument("--index", type=int, default=0, metavar="I", help="index of the image (default: 0)")
    index.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the weights (default: 0)")
    index.add_argument(
        "--defense",
        action="append",
        default=[],
        metavar="NAME",
        help="in addition to none, such as 'prune(ratio=0.5)'; may be given several times",
    )
    index.add_argument(
        "--out", type=Path, default=Path("runs/index"), metavar="DIR", help="default: runs/index"
    )
    add_data_root(index)
    index.set_defaults(command=run_index)


def run_index(options: argparse.Namespace, console: Console) -> int:
    """`leakbench index`: one table per network, and one figure of all of them."""
    from leakbench.bench.datasets import DATASETS
    from leakbench.bench.models import MODELS
    from leakbench.core.errors import UserError
    from leakbench.defenses import DEFENSES, NoDefense
    from leakbench.reports.figures.index import draw_index
    from leakbench.reports.index import index_tables
    from leakbench.reports.style import save
    from leakbench.sweeps.indices import Indices, Probe
    from leakbench.sweeps.lock import locked

    with problems_of("--dataset"):
        dataset = DATASETS.parse(options.dataset)
    with problems_of("--defense"):
        defenses = [NoDefense(), *map(DEFENSES.parse, options.defense)]
    with problems_of("MODEL"):
        models = list(map(MODELS.parse, options.model))
    for model in models:
        _check(model, dataset, options)
    probes = [
        Probe(dataset, options.index, model, options.seed, defense)
        for model in models
        for defense in dict.fromkeys(defenses)
    ]
    indices = Indices(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out):
        indices.repair(options.out / "set-aside")
        problems = measure_all(indices, probes, options.data_root, console)
    if problems:
        raise UserError(*problems)
    rows = indices.rows([probe.key for probe in probes])
    for table in index_tables(rows):
        console.print(table)
    with writing_reports(options.out):
        paths = save(draw_index(rows), options.out, "index", ("png", "pdf"))
    console.print(f"rows     {options.out / 'indices.parquet'}")
    console.print(f"figure   {paths[0]} (and .pdf)")
    return 0


def _check(model: "Model", dataset: "Dataset", options: argparse.Namespace) -> None:
    """Check that the network can be built and takes the image.

    Raises:
        UserError: with a line for every problem.
    """
    from functools import partial

    from leakbench.bench.attackable import model_problems
    from leakbench.bench.datasets import open_images
    from leakbench.core.errors import UserError
    from leakbench.sweeps.checks import example_problems

    with problems_of("--dataset"):
        images = open_images(dataset, options.data_root)
    found = list(example_problems(images, (options.index,), together=1))
    if found:
        raise UserError(*(_placed(text) for text in found))
    build = partial(model.build, images.shape, images.classes, options.seed)
    batch, labels = images.batch(range(options.index, options.index + 1))
    problems = list(model_problems(model, images, batch, labels, False, build))
    if problems:
        raise UserError(*(f"{model}: {text}" for text in problems))


def _placed(text: str) -> str:
    """A problem of the image, after the option that named it."""
    return f"--index{text.removeprefix('.indices')}" if text.startswith(".indices") else f"--dataset{text}"


def measure_all(
    indices: "Indices", probes: "Sequence[Probe]", data_root: Path, console: Console
) -> list[str]:
    """Measure and print what is not stored yet; returns a line for each network that has no index."""
    from leakbench.bench.attacks import NotApplicableError
    from leakbench.core.foreign import ForeignError, foreign
    from leakbench.core.words import in_words

    problems: dict[str, None] = {}
    for number, probe in enumerate(probes, 1):
        began = time.monotonic()
        try:
            status = console.status(f"index {number} of {len(probes)}: {probe}")
            with status, foreign(NotApplicableError, SystemExit):
                new = indices.measure(probe, data_root)
        except NotApplicableError as error:
            problems[str(error)] = None
            continue
        except ForeignError as error:
            problems[f"{probe}: {error.short}"] = None
            continue
        if new:
            took = in_words(time.monotonic() - began)
            console.print(f"index {number} of {len(probes)}: {probe}: {took}")
    return list(problems)
