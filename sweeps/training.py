"""The trainings of a sweep: every model with every defense."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from leakbench.bench.attacks import Status
from leakbench.bench.execution import Watcher
from leakbench.bench.lock_step import train_together
from leakbench.bench.training import Training
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.sweeps.records import Record, checkpoint, failed_record, origin_of, to_record
from leakbench.sweeps.spec import Course, Sweep
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS
from leakbench.sweeps.todo import Todo


def trainings_of(sweep: Sweep) -> list[Training]:
    """Every training of the sweep, those of a group after one another."""
    course = course_of(sweep)
    return [
        training
        for model, protocol, seed in product(sweep.models, sweep.protocols, course.seeds)
        for training in sorted(
            (
                Training(
                    course.train,
                    course.test,
                    model.value,
                    seed,
                    course.recipe,
                    choice.value,
                    protocol.value,
                )
                for choice in sweep.defenses
            ),
            key=lambda training: training.room,
        )
    ]


def course_of(sweep: Sweep) -> Course:
    """What the file says of training.

    Raises:
        UserError: the file has no `training`.
    """
    if sweep.training is None:
        text = f"{sweep.file}: training: expected a section on how models are trained, found none"
        raise UserError(f"{text}; docs/UTILITY.md has an example")
    return sweep.training


@dataclass(frozen=True)
class TrainingPlan(Todo):
    """The trainings that a run has to do."""

    noun: ClassVar[str] = "training"

    todo: tuple[Training, ...]
    kept: int  # trainings of the sweep that are done
    retried: frozenset[str]  # keys of the failed ones that are not
    left_out: frozenset[str]  # keys of rows that the sweep does not request

    def __len__(self) -> int:
        return len(self.todo)

    def __iter__(self) -> Iterator[Training]:
        return iter(self.todo)

    @property
    def measure(self) -> str:
        """See `Todo.measure`."""
        return "accuracy"

    @property
    def steps(self) -> int:
        """See `Todo.steps`."""
        return sum(training.steps for training in self.todo)

    @property
    def uneven(self) -> bool:
        """See `Todo.uneven`."""
        return False

    @property
    def parts(self) -> Mapping[str, int]:
        """See `Todo.parts`."""
        return Counter(self._part(str(each.model), str(each.defense)) for each in self.todo)

    def part_of(self, row: Mapping[str, Any]) -> str:
        """See `Todo.part_of`."""
        return self._part(row["model"], row["defense"])

    def summary(self, values: Sequence[float]) -> str:
        """See `Todo.summary`."""
        return f"mean accuracy {mean(values):.1%}"

    def _part(self, model: str, defense: str) -> str:
        return f"{model}, {defense}" if len({str(each.model) for each in self.todo}) > 1 else defense


def plan_trainings(sweep: Sweep, store: Store, retry_errors: bool = False) -> TrainingPlan:
    """Those that have no row yet, or not all the weights that are to be kept.

    Args:
        sweep: with its course.
        store: of the rows and checkpoints that are there.
        retry_errors: whether trainings whose row is an error run again.
    """
    everything = trainings_of(sweep)
    statuses = store.statuses(TRAININGS)
    errors = {key for key, status in statuses.items() if status == Status.ERROR}
    retried = errors & {training.key for training in everything} if retry_errors else set()
    done, course = statuses.keys() - retried, course_of(sweep)
    todo = [
        training
        for training in everything
        if training.key not in done
        or (statuses[training.key] != Status.ERROR and not _has_weights(training, store, course))
    ]
    left_out = statuses.keys() - {training.key for training in everything}
    return TrainingPlan(tuple(todo), len(everything) - len(todo), frozenset(retried), frozenset(left_out))


def _has_weights(training: Training, store: Store, course: Course) -> bool:
    """Whether all are there, and none is of another training of the same names."""
    names = str(training.model), str(training.defense), str(training.protocol), training.seed
    paths = [checkpoint(*names, epoch) for epoch in course.checkpoints]
    origins = [store.folder / origin_of(path) for path in paths]
    return all(
        (store.folder / path).exists() and origin.exists() and origin.read_text() == training.key
        for path, origin in zip(paths, origins, strict=True)
    )


def train(
    trainings: Iterator[Training],
    device: str,
    watcher: Watcher,
    data_root: Path,
    keep: Sequence[int] = (),
) -> Iterator[Record]:
    """At a worker: the records of trainings, as many side by side as there is room for.

    Args:
        trainings: of one group.
        device: of this worker.
        watcher: told what happens on the way.
        data_root: where datasets lie that do not come with the project.
        keep: epochs after which the weights are kept.
    """
    for first in trainings:
        together = [first, *islice(trainings, first.room - 1)]
        for training in together:
            watcher.preparing(training)
        watcher.preparing(None)
        try:
            with foreign():
                trained = train_together(together, data_root, device, keep, watcher.moved)
        except ForeignError as error:
            yield from (failed_record(training, str(error), device) for training in together)
        else:
            yield from map(to_record, trained)
