"""What a shared inference needs before it starts: precisions, engines, and networks with their weights."""

import argparse
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import problems_of

if TYPE_CHECKING:
    from leakbench.bench.datasets import Images
    from leakbench.bench.models import Model
    from leakbench.bench.private.measure import Job
    from leakbench.bench.private.subject import Subject
    from leakbench.bench.sharing import FixedPoint
    from leakbench.bench.training import Examples

DIGITS, BITS = "1-6", "16"


def jobs_of(options: argparse.Namespace) -> "list[Job]":
    """Every engine at every precision that it has.

    Raises:
        UserError: digits that are none, or an engine that cannot be had.
    """
    from leakbench.bench.private.measure import DEALER, SPU, Job
    from leakbench.bench.private.secretflow import python_of
    from leakbench.core.errors import UserError

    engines = options.engine or [DEALER]
    if options.digits is None and options.bits is None:
        precisions = _precisions("--digits", DIGITS, 10) + _precisions("--bits", BITS, 2)
    else:
        precisions = _precisions("--digits", options.digits, 10) + _precisions("--bits", options.bits, 2)
    binary = [each for each in precisions if each.base == 2]
    if "spu" in engines:
        python_of(options.spu)
        if not binary:
            raise UserError("--engine spu: expected a precision in bits, as SPU has no other; add --bits 16")
    jobs = [Job(DEALER, each, options.spu) for each in precisions if DEALER in engines]
    return jobs + [Job(name, each, options.spu) for each in binary for name in SPU if "spu" in engines]


def _precisions(option: str, text: str | None, base: int) -> "list[FixedPoint]":
    """From `1-6` or `3`; none from nothing."""
    from leakbench.bench.sharing import FixedPoint

    if text is None:
        return []
    with problems_of(option):
        return [FixedPoint(base, digits) for digits in _numbers(option, text)]


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from leakbench.core.errors import UserError
    from leakbench.sweeps.ranges import parse_ranges

    try:
        return tuple(dict.fromkeys(parse_ranges(text)))
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


def subjects_of(options: argparse.Namespace, jobs: "list[Job]", console: Console) -> "list[Subject]":
    """The networks, trained where they have to be, with the images.

    Raises:
        UserError: with a line for every problem.
    """
    from leakbench.bench.datasets import DATASETS, open_images
    from leakbench.bench.models import MODELS
    from leakbench.bench.private.subject import check_room, subject_of
    from leakbench.bench.training import Examples
    from leakbench.core.errors import UserError

    with problems_of("--dataset"):
        dataset = DATASETS.parse(options.dataset)
        images = open_images(dataset, options.data_root)
    train, test = (
        Examples(dataset, _indices(option, text, images))
        for option, text in (("--train", options.train), ("--indices", options.indices))
    )
    both = set(train.indices) & set(test.indices)
    if both:
        text = f"expected test images outside the training set, got {len(both)} that are also in it"
        raise UserError(f"--indices: {text} (first: {min(both)})")
    if options.weights and len(options.model) > 1:
        raise UserError(f"--weights: expected one MODEL that they are of, got {len(options.model)}")
    with problems_of("MODEL"):
        models = list(map(MODELS.parse, options.model))
        for model in models:  # before anything is trained
            subject_of(str(model), model, images, test.indices[:1])
    subjects = []
    for model in models:
        weighted = _weighted(model, train, test, options, console)
        with problems_of("MODEL"):
            subjects.append(subject_of(str(model), weighted, images, test.indices))
        check_room(subjects[-1], [job.encoding for job in jobs])
    return subjects


def _indices(option: str, text: str, images: "Images") -> tuple[int, ...]:
    from leakbench.core.errors import UserError
    from leakbench.sweeps.checks import example_problems

    indices = _numbers(option, text)
    problems = list(example_problems(images, indices, together=1))
    if problems:
        raise UserError(*(f"{option}{problem.removeprefix('.indices')}" for problem in problems))
    return indices


def _weighted(
    model: "Model", train: "Examples", test: "Examples", options: argparse.Namespace, console: Console
) -> "Model":
    """The model with its weights from a file: the one that was given, or that of a training."""
    from leakbench.bench.private.checkpoint import RECIPE, checkpoint_of, with_checkpoint

    if options.weights:
        with problems_of("--weights"):
            return with_checkpoint(model, options.weights)
    if model.checkpoint:
        return model
    with console.status(f"training {model}: {RECIPE} on {train}"):
        path = checkpoint_of(model, train, test, options.data_root, options.out / "weights")
    console.print(f"weights    {path}")
    return with_checkpoint(model, path)
