"""Trains every model of a sweep with every defense, several side by side, and stores what became of it."""

import os
import signal
import time
import warnings
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, islice, product
from pathlib import Path

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from leakbench.bench.attacks import Status
from leakbench.bench.datasets import open_dataset
from leakbench.bench.hardware import hardware_of
from leakbench.bench.lock_step import train_together, width
from leakbench.bench.models import Model
from leakbench.bench.training import Examples, Training
from leakbench.bench.training_row import Trained, training_failure
from leakbench.core.configured import SettingError
from leakbench.core.errors import StoppedError, UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.interrupts import uninterrupted
from leakbench.core.process import prepare_worker
from leakbench.core.words import in_words
from leakbench.defenses import NoDefense
from leakbench.sweeps.checks import image_problems
from leakbench.sweeps.spec import Course, Sweep
from leakbench.sweeps.store import Store

Group = list[Training]  # that are trained side by side


def trainings_of(sweep: Sweep) -> list[Training]:
    """Every training of the sweep, those that differ only in their defense after one another."""
    course = course_of(sweep)
    return [
        Training(course.train, course.test, model.value, seed, course.recipe, choice.value)
        for model, seed, choice in product(sweep.models, course.seeds, sweep.defenses)
    ]


def groups(trainings: Iterable[Training]) -> Iterator[Group]:
    """Those that differ only in their defense together, as many as there is room for."""
    for (*_, room), alike in groupby(trainings, key=_place):
        while group := list(islice(alike, room)):
            yield group


def _place(training: Training) -> tuple[Model, int, int]:
    return training.model, training.seed, width(training.defense)


def course_of(sweep: Sweep) -> Course:
    """What the file says of training.

    Raises:
        UserError: nothing.
    """
    if sweep.training is None:
        text = f"{sweep.file}: training: expected how models are trained, found nothing"
        raise UserError(f"{text}; docs/UTILITY.md has an example")
    return sweep.training


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
            text = f"expected images that are not trained on, got {len(both)} that are"
            problems.append(f"training.test.indices: {text}, such as {min(both)}")
    needed = course.recipe.clients * course.recipe.batch_size
    if needed > len(course.train.indices):
        text = f"a step of {course.recipe.clients} clients x {course.recipe.batch_size} examples"
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
        yield from (f"{place}{text}" for text in image_problems(images, examples.indices, together=1))


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


def train(
    sweep: Sweep, store: Store, devices: list[str], data_root: Path, retry_errors: bool = False
) -> Iterator[str]:
    """Train what has no row yet; a line whenever some are done. The store's lock is held.

    Args:
        sweep: with its course.
        store: where the rows and checkpoints go.
        devices: of each worker.
        data_root: where data sets lie that do not come with the project.
        retry_errors: whether trainings whose row is an error run again.

    Raises:
        StoppedError: a worker died, or the rows cannot be written.
    """
    course, everything = course_of(sweep), trainings_of(sweep)
    keys = [training.key for training in everything]
    done = store.begin_training(sweep, devices, map(hardware_of, devices), keys, retry_errors)
    todo = [training for training in everything if not _is_done(training, store, done, course)]
    missing = len(todo)
    if missing < len(keys):
        yield f"{store.folder}: {len(keys) - missing} trainings are there already, {missing} to run"
    began, ended = time.monotonic(), 0
    jobs = (
        joblib.delayed(_train)(group, data_root, devices[number % len(devices)], course.checkpoints)
        for number, group in enumerate(groups(todo))
    )
    parallel = joblib.Parallel(
        len(devices),
        return_as="generator_unordered",
        batch_size=1,
        initializer=_prepare,
        initargs=(Path.cwd(),),  # workers of an earlier call, in another folder, are not taken again
    )
    try:
        with abandoned_quietly(parallel(jobs)) as results:
            for trained in results:
                with uninterrupted():
                    store.append_trained(trained, done)
                ended += len(trained)
                left = (time.monotonic() - began) / ended * (missing - ended)
                yield f"{ended} of {missing} trained, {in_words(left)} left"
                yield from (
                    f"  {each.row.defense}, seed {each.row.seed}: {_outcome(each)}" for each in trained
                )
    except TerminatedWorkerError as error:
        text = "a worker was ended from outside, as when memory runs out"
        raise StoppedError(f"{text}; what is finished is stored: the same command runs the rest") from error


@contextmanager
def abandoned_quietly(results: Generator[list[Trained]]) -> Iterator[Generator[list[Trained]]]:
    """Closes them in the end, without joblib's warning that nobody waits for some of them."""
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _is_done(training: Training, store: Store, done: Collection[str], course: Course) -> bool:
    paths = (
        store.checkpoint(str(training.model), str(training.defense), training.seed, epoch)
        for epoch in course.checkpoints
    )
    return training.key in done and all(path.exists() for path in paths)


def _prepare(folder: Path) -> None:
    """At a worker: where a user's files are looked for, and who heeds Ctrl-C."""
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes


def _train(group: Group, data_root: Path, device: str, keep: Collection[int]) -> list[Trained]:
    """At a worker."""
    prepare_worker()
    try:
        with foreign():
            return train_together(group, data_root, device, keep)
    except ForeignError as error:
        return [training_failure(training, str(error), device) for training in group]


def _outcome(trained: Trained) -> str:
    accuracy = trained.row.accuracy
    return f"failed: {trained.row.reason}" if accuracy is None else f"accuracy {accuracy:.1%}"
