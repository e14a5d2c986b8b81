"""A training: everything that decides how well a model is trained with a defense."""

from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from leakbench.bench.datasets import DATASETS, Dataset, open_dataset
from leakbench.bench.job import Job
from leakbench.bench.models import MODELS, Model
from leakbench.bench.protocols import PROTOCOLS, FedSGD, Protocol
from leakbench.bench.trial import key_of
from leakbench.core.configured import Configured
from leakbench.core.ranges import Count, Positive, Share
from leakbench.defenses import DEFENSES, Defense, Point

WIDTH = 4  # trainings in lock step, always: another number of them gives other last digits


@dataclass(frozen=True)
class Recipe(Configured):
    """How a model is trained: by the server's steps along the mean of what clients share."""

    name: ClassVar[str] = "fedsgd"

    clients: Count = 4  # that share a gradient at every step
    batch_size: Count = 5  # examples of each of them, where the protocol asks for no more than one
    epochs: Count = 30
    lr: Positive = 0.02
    momentum: Share = 0.9  # of sgd
    optimizer: Literal["sgd", "adam"] = "sgd"  # of the server


@dataclass(frozen=True)
class Examples:
    """Labelled images of a dataset, by index."""

    dataset: Dataset
    indices: tuple[int, ...]

    def canonical(self) -> list[Any]:
        """All that decides which they are."""
        return [self.dataset.canonical(), list(self.indices)]

    def read(self, model: Model, data_root: Path) -> tuple[Tensor, Tensor]:
        """What a model is given of them, and what it is to answer: see `Model.given`."""
        source = open_dataset(self.dataset, data_root)
        places = [(self.dataset.address, index) for index in self.indices]
        return model.given(source, *source.batch(self.indices), places)

    def names(self) -> tuple[str, tuple[int, ...]]:
        """What `from_names` makes them of again."""
        return str(self.dataset), self.indices

    @classmethod
    def from_names(cls, dataset: str, indices: tuple[int, ...]) -> "Examples":
        """Those of the dataset of that name."""
        return cls(DATASETS.parse(dataset), indices)

    def __str__(self) -> str:
        return f"{len(self.indices)} of {self.dataset}"


@dataclass(frozen=True)
class Training(Job):
    """A model that is trained with what a defense leaves of the gradients of clients."""

    coupled: ClassVar[bool] = True

    train: Examples
    test: Examples
    model: Model
    seed: int  # of the weights, of the order of the examples, and of the defense's draws
    recipe: Recipe
    defense: Defense
    protocol: Protocol = field(default_factory=FedSGD)

    @cached_property
    def key(self) -> str:
        """See `key_of`."""
        parts = {
            name: getattr(self, name).canonical()
            for name in ("train", "test", "model", "recipe", "defense", "protocol")
        }
        return key_of({"seed": self.seed, **parts})

    @property
    def steps(self) -> int:
        """See `Job.steps`: those of the optimiser."""
        return self.recipe.epochs * (len(self.train.indices) // (self.recipe.clients * self.examples))

    @property
    def examples(self) -> int:
        """How many examples each client has in a round."""
        return self.protocol.batch_size if self.protocol.batch_size > 1 else self.recipe.batch_size

    @property
    def sampling_rate(self) -> float:
        """The share of all examples that take part in a step."""
        return self.recipe.clients * self.examples / len(self.train.indices)

    @property
    def noise_multiplier(self) -> float | None:
        """See `Defense.multiplier`; None where an update is not the mean of one gradient per example.

        Several rounds of one batch tell as much as one with less noise.
        """
        multiplier = self.defense.multiplier
        if multiplier is None or not self.protocol.separable:
            return None
        return multiplier / sqrt(self.protocol.rounds)

    @property
    def room(self) -> int:
        """How many trainings a group has room for: see `train_together`."""
        return 1 if self.defense.points() - {Point.GRADIENT} else WIDTH

    @property
    def group(self) -> tuple[str, ...]:
        """See `Job.group`: those that differ only in their defense."""
        alone = str(self.defense) if self.room == 1 else ""
        examples = [f"{each.dataset} {each.indices}" for each in (self.train, self.test)]
        return *examples, str(self.model), str(self.seed), str(self.recipe), str(self.protocol), alone

    def names(self) -> dict[str, Any]:
        """See `Job.names`."""
        return {
            "train": self.train.names(),
            "test": self.test.names(),
            "model": str(self.model),
            "seed": self.seed,
            "recipe": self.recipe,
            "defense": str(self.defense),
            "protocol": str(self.protocol),
        }

    @classmethod
    def from_names(cls, names: dict[str, Any]) -> "Training":
        """See `Job.from_names`."""
        return cls(
            Examples.from_names(*names["train"]),
            Examples.from_names(*names["test"]),
            MODELS.parse(names["model"]),
            names["seed"],
            names["recipe"],
            DEFENSES.parse(names["defense"]),
            PROTOCOLS.parse(names["protocol"]),
        )
