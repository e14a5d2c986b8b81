"""Whether what a sweep file says of training can be done."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from leakbench.bench.attacks import Status
from leakbench.bench.datasets import open_dataset
from leakbench.bench.lock_step import train_together
from leakbench.bench.models import Model
from leakbench.bench.training import Examples, Training
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.defenses import NoDefense
from leakbench.sweeps.checks import example_problems
from leakbench.sweeps.spec import Course, Sweep
from leakbench.sweeps.training import course_of, trainings_of


def check_training(sweep: Sweep, data_root: Path) -> None:
    """Whether the examples are there, and every model can be trained on them.

    Raises:
        UserError: with a line for every problem.
    """
    course = course_of(sweep)
    problems = [
        text
        for name, examples in (("train", course.train), ("test", course.test))
        for text in _example_problems(f"training.{name}", examples, data_root)
    ]
    if course.train.dataset == course.test.dataset:
        both = set(course.train.indices) & set(course.test.indices)
        if both:
            text = f"expected test images outside the training set, got {len(both)} that are also in it"
            problems.append(f"training.test.indices: {text} (first: {min(both)})")
    examples = max(training.examples for training in trainings_of(sweep))
    needed = course.recipe.clients * examples
    if needed > len(course.train.indices):
        text = f"a step of {course.recipe.clients} clients x {examples} examples"
        found = len(course.train.indices)
        problems.append(f"training.train.indices: expected {needed} images or more for {text}, got {found}")
    if not problems:
        problems = [
            f"{model.place}: {model.value}: {text}"
            for model in sweep.models
            for text in _model_problems(model.value, course, data_root)
        ]
    if problems:
        raise UserError(*(f"{sweep.file}: {problem}" for problem in problems))


def _example_problems(place: str, examples: Examples, data_root: Path) -> Iterator[str]:
    try:
        images = open_dataset(examples.dataset, data_root)
    except SettingError as error:
        yield from (f"{place}: {text}" for _, text in error.problems)
    else:
        yield from (f"{place}{text}" for text in example_problems(images, examples.indices, together=1))


def _model_problems(model: Model, course: Course, data_root: Path) -> Iterator[str]:
    """What a single step shows."""
    few = course.train.indices[: course.recipe.clients * course.recipe.batch_size]
    step = Training(
        replace(course.train, indices=few),
        replace(course.test, indices=course.test.indices[:1]),
        model,
        course.seeds[0],
        replace(course.recipe, epochs=1),
        NoDefense(),
    )
    try:
        with foreign(SystemExit):
            (trained,) = train_together([step], data_root)
    except ForeignError as error:
        yield f"expected a model that torch.func can train, got {error.short}"
    else:
        if trained.row.status != Status.CONVERGED:
            yield f"expected a model that can be trained, got at its first step: {trained.row.reason}"
