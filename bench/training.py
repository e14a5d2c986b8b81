"""A training: everything that decides how well a model is trained with a defense."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from leakbench.bench.datasets import DATASETS, Dataset, open_dataset
from leakbench.bench.models import MODELS, Model
from leakbench.bench.trial import key_of
from leakbench.core.configured import Configured
from leakbench.defenses import DEFENSES, Defense


@dataclass(frozen=True)
class Recipe(Configured):
    """How a model is trained: stochastic gradient descent on the mean of what clients share."""

    name: ClassVar[str] = "fedsgd"

    clients: int = 4  # that share a gradient at every step
    batch_size: int = 5  # examples of each of them
    epochs: int = 30
    lr: float = 0.02
    momentum: float = 0.9

    def problems(self) -> Iterator[tuple[str, str]]:
        """Counts of at least 1, a rate above 0, a momentum below 1."""
        for setting in ("clients", "batch_size", "epochs"):
            if getattr(self, setting) < 1:
                yield setting, f"expected a whole number >= 1, got {getattr(self, setting)}"
        if self.lr <= 0:
            yield "lr", f"expected a number > 0, got {self.lr:g}"
        if not 0 <= self.momentum < 1:
            yield "momentum", f"expected a number in [0, 1), got {self.momentum:g}"


@dataclass(frozen=True)
class Examples:
    """Labelled images of a data set, by index."""

    dataset: Dataset
    indices: tuple[int, ...]

    def canonical(self) -> list[Any]:
        """All that decides which they are."""
        return [self.dataset.canonical(), list(self.indices)]

    def read(self, data_root: Path) -> tuple[Tensor, Tensor]:
        """The images (N, C, H, W) and labels (N,)."""
        return open_dataset(self.dataset, data_root).batch(self.indices)

    def __str__(self) -> str:
        return f"{len(self.indices)} of {self.dataset}"


@dataclass(frozen=True)
class Training:
    """Everything that decides how well a model is trained. Equal key, equal result."""

    train: Examples
    test: Examples
    model: Model
    seed: int  # of the weights, of the order of the examples, and of the defense's draws
    recipe: Recipe
    defense: Defense

    def __reduce__(self) -> tuple[Callable[..., "Training"], tuple[Any, ...]]:
        # by name, so that a worker imports a user's file itself
        examples = [(str(each.dataset), each.indices) for each in (self.train, self.test)]
        names = str(self.model), str(self.defense)
        return Training._from_names, (*examples, *names, self.recipe, self.seed)

    @classmethod
    def _from_names(
        cls,
        train: tuple[str, tuple[int, ...]],
        test: tuple[str, tuple[int, ...]],
        model: str,
        defense: str,
        recipe: Recipe,
        seed: int,
    ) -> "Training":
        own, others = (Examples(DATASETS.parse(name), indices) for name, indices in (train, test))
        return cls(own, others, MODELS.parse(model), seed, recipe, DEFENSES.parse(defense))

    @cached_property
    def key(self) -> str:
        """See `key_of`."""
        parts = {
            name: getattr(self, name).canonical() for name in ("train", "test", "model", "recipe", "defense")
        }
        return key_of({"seed": self.seed, **parts})
