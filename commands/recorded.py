"""What `leakbench attack` and `leakbench audit` share: a sweep over updates that were recorded."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from leakbench.commands.common import (
    add_again,
    add_data_root,
    add_executor,
    add_timeout,
    add_workers,
    file_beside,
    positive,
    problems_of,
    run_options,
)

if TYPE_CHECKING:
    from leakbench.bench.datasets import Recorded, Source
    from leakbench.bench.datasets.uploads import Upload

SUITE = "standard"


def add_target(parser: argparse.ArgumentParser, index: str) -> None:
    """The options that say of which network it is, and of what; `index` is the help of that option."""
    parser.add_argument(
        "--model", required=True, help="the network, such as 'net.py:Net(weights=checkpoint:weights.pt)'"
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="the dataset that the images or texts come from, such as folder:PATH or text:FILE",
    )
    parser.add_argument("--index", metavar="I", help=index)
    parser.add_argument(
        "--shape",
        metavar="CxHxW",
        help="without --data: shape of the images, such as 3x32x32; of texts the tokens of the longest: 42",
    )
    parser.add_argument("--classes", type=positive, metavar="K", help="without --data: number of classes")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="without --data: word pieces of texts, one a line (default: BERT's)",
    )


def add_attackers(parser: argparse.ArgumentParser, restarts: int) -> None:
    """The options that say how it is attacked."""
    parser.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="NAME",
        help="in place of the suite, such as 'dlg(steps=600)'; may be given several times",
    )
    parser.add_argument("--suite", default="", metavar="NAME", help=f"suite of attacks (default: {SUITE})")
    parser.add_argument(
        "--exhaustive", action="store_true", help="attack what has leaked with the other attacks, too"
    )
    parser.add_argument(
        "--restarts",
        type=positive,
        default=restarts,
        metavar="N",
        help=f"starts of each attack (default: {restarts})",
    )
    add_again(parser, "trial", "model or attack")
    add_workers(parser)
    add_executor(parser)
    add_timeout(parser)
    add_data_root(parser)


def examples_of(options: argparse.Namespace) -> "tuple[dict[str, Any], Source | None]":
    """The settings of `Recorded` that say what is behind the updates; and the dataset that was named.

    Raises:
        UserError: neither a dataset nor a shape and classes.
    """
    from leakbench.bench.datasets import DATASETS, open_dataset
    from leakbench.core.errors import UserError

    if options.data is not None:
        with problems_of("--data"):
            source = open_dataset(DATASETS.parse(options.data), options.data_root)
            return _like(source), source
    if options.classes is None or not re.fullmatch(r"\d+(x\d+x\d+)?", options.shape or ""):
        text = "expected --data NAME, or --shape CxHxW (such as 3x32x32) and --classes K"
        raise UserError(f"{text}; of texts, --shape is the number of tokens of the longest")
    shape = tuple(map(int, options.shape.split("x")))
    return {"shape": shape, "classes": options.classes, "vocabulary": options.vocabulary or ""}, None


def _like(source: "Source") -> dict[str, Any]:
    """The settings of `Recorded` for examples like those of a dataset.

    Raises:
        SettingError: texts whose vocabulary is in no file.
    """
    from leakbench.bench.datasets import Texts
    from leakbench.bench.vocabulary import vocabulary_of
    from leakbench.core.configured import SettingError

    if not isinstance(source, Texts):
        return {"shape": source.shape, "classes": source.classes}
    path = source.vocabulary.path
    if vocabulary_of(path).pieces != source.vocabulary.pieces:
        raise SettingError([("", "expected texts with a vocabulary from a file, see `vocabulary_of`")])
    return {"shape": (source.longest,), "classes": source.classes, "vocabulary": path}


def truth_of(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of `Recorded` that name the true examples, as far as they were named.

    Raises:
        UserError: no whole numbers, or no dataset that they are of.
    """
    from leakbench.core.errors import UserError
    from leakbench.sweeps.ranges import parse_ranges

    if options.index is None:
        return {}
    if options.data is None:
        raise UserError("--index: expected --data NAME with it, got none")
    try:
        return {"truth": options.data, "truth_indices": parse_ranges(options.index)}
    except ValueError as error:
        raise UserError(f"--index: {error}") from error


def recorded_of(**settings: Any) -> "Recorded":
    """The dataset with these settings.

    Raises:
        UserError: with a line for every problem.
    """
    from leakbench.bench.datasets import Recorded
    from leakbench.core.configured import SettingError
    from leakbench.core.errors import UserError

    try:
        return Recorded(**settings)
    except SettingError as error:
        raise UserError(*(text for _, text in error.problems)) from error


def check_received(
    dataset: "Recorded", uploads: "Sequence[Upload]", options: argparse.Namespace, console: Console
) -> None:
    """Whether the updates are gradients of the network; says which buffers came with them.

    Raises:
        UserError: with a line for every problem.
    """
    from leakbench.bench.models import MODELS
    from leakbench.core.errors import UserError
    from leakbench.sweeps.recorded import received_problems

    with problems_of("--model"):
        model = MODELS.parse(options.model)
    problems, ignored = received_problems(dataset, uploads, model)
    if problems:
        raise UserError(*problems)
    if ignored:
        console.print(f"note: buffers are no part of a gradient and ignored: {', '.join(ignored)}")
    if Path(dataset.path).is_file() and model.weights in ("uniform", "default"):
        text = f"the model has {model.weights} weights, and the gradient those of its training"
        console.print(f"note: {text}: name them by weights=checkpoint:FILE")


def run_recorded(
    datasets: list[dict[str, Any]],
    protocols: Iterable[str],
    folder: Path,
    options: argparse.Namespace,
    console: Console,
) -> int:
    """Write the sweep file next to the run's folder, run what is missing, and report; the exit status.

    Args:
        datasets: as they stand in a sweep file.
        protocols: by which they are attacked.
        folder: of the run.
        options: what was typed.
        console: to print on.
    """
    from leakbench.bench.attacks import ATTACKS
    from leakbench.commands.running import load, run_sweep
    from leakbench.commands.sweep import show_results
    from leakbench.core.errors import UserError
    from leakbench.reports.run import Run
    from leakbench.sweeps.comparison import write_sweep

    if options.attack and options.suite:
        raise UserError("--suite: expected a suite or --attack, got both")
    with problems_of("--attack"):
        attacks = [str(ATTACKS.parse(each)) for each in options.attack]
    content = {
        "datasets": datasets,
        "models": [options.model],
        "protocols": list(protocols),
        "defenses": ["none"],
        **({"attacks": attacks} if attacks else {"suite": options.suite or SUITE}),
        "restarts": options.restarts,
    }
    if not any("truth" in each for each in datasets):
        content["exhaustive"] = True  # what leaks is never known, so no attack has to wait for another
    file = file_beside(folder)
    write_sweep(content, file, sys.argv[1:] if sys.argv[1:2] == [options.verb] else [options.verb])
    own = replace(run_options(options), out=folder, suite="")
    return show_results(Run(run_sweep(load(file, own), own, console)), console, figures=True)
