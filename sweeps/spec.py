"""What a sweep is: the objects that its file names, and how many trials follow from them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from leakbench.bench.attacks import Attack
from leakbench.bench.datasets import Dataset
from leakbench.bench.models import Model
from leakbench.bench.protocols import Protocol
from leakbench.bench.training import Examples, Recipe
from leakbench.bench.verdicts import Scale
from leakbench.core.configured import Configured
from leakbench.defenses import Defense

T = TypeVar("T", bound=Configured)


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One object that the file names, and where in the file."""

    place: str
    value: T
    indices: tuple[int, ...] = ()  # of a dataset


@dataclass(frozen=True)
class Course:
    """How and on what every model is trained with every defense: the `training` of a sweep file."""

    train: Examples
    test: Examples
    recipe: Recipe
    seeds: tuple[int, ...] = (0,)
    checkpoints: tuple[int, ...] = ()  # epochs after which the weights are kept
    timeout: float = 0  # seconds after which a training without a result is an error; 0: no limit

    def canonical(self) -> dict[str, Any]:
        """All that decides which trainings there are."""
        return {
            "train": self.train.canonical(),
            "test": self.test.canonical(),
            "recipe": self.recipe.canonical(),
            "seeds": list(self.seeds),
        }


@dataclass(frozen=True)
class Changes:
    """Changes to a sweep file that options request."""

    quick: bool = False  # whether the values under that key replace the others
    suite: str = ""  # its attacks in place of the file's
    exhaustive: bool = False  # all attacks on all victims, whatever the file says

    @property
    def typed(self) -> str:
        """The options of `leakbench sweep` that request the changes."""
        options = (
            "--quick" * self.quick,
            f"--suite {self.suite}" * bool(self.suite),
            "--exhaustive" * self.exhaustive,
        )
        return " ".join(filter(None, options))


class Meeting(NamedTuple):
    """An attack and what it meets, by name: this decides whether the attack applies."""

    attack: str
    dataset: str
    model: str
    protocol: str
    defense: str

    @classmethod
    def of(
        cls, attack: Attack, dataset: Dataset, model: Model, protocol: Protocol, defense: Defense
    ) -> "Meeting":
        """The meeting of these objects, by their names."""
        return cls(*map(str, (attack, dataset, model, protocol, defense)))


@dataclass(frozen=True)
class Sweep:
    """What to cross with what."""

    file: Path
    datasets: tuple[Choice[Dataset], ...]
    models: tuple[Choice[Model], ...]
    protocols: tuple[Choice[Protocol], ...]
    attacks: tuple[Choice[Attack], ...]
    defenses: tuple[Choice[Defense], ...]  # the undefended baseline is always among them
    model_seeds: tuple[int, ...] = (0,)
    restarts: int = 1
    suite: str = ""  # the suite that the attacks are from, if any
    refused: Mapping[Meeting, str] = field(default_factory=dict)  # where an attack does not apply, and why
    exhaustive: bool = True  # whether a victim that has leaked is attacked by the attacks that follow
    snapshot_every: int = 30  # outer steps between two pictures kept of a trial; 0 keeps none
    trial_timeout: float = 0  # seconds after which a trial without a result is an error; 0: never
    training: Course | None = None
    probes: tuple[str, ...] = ()  # what is measured without an attack, of PROBES
    scale: Scale = field(default_factory=Scale)  # what counts as a leak
    notices: tuple[str, ...] = ()
    changes: Changes = field(default_factory=Changes)  # those that were applied

    def __len__(self) -> int:
        return self.size

    @property
    def spares(self) -> bool:
        """Whether victims that leaked to one attack are spared the others, so that `size` is a bound."""
        return not self.exhaustive and len(self.attacks) > 1

    @property
    def size(self) -> int:
        """The number of trials, which may be more than `len` can return."""
        return sum(self.by_defense.values())

    @property
    def by_defense(self) -> dict[str, int]:
        """{defense: the number of its trials}."""
        victims = sum(len(data.indices) for data, _ in self.shared) * len(self.models) * len(self.attacks)
        each = len(self.model_seeds) * self.restarts
        return {
            str(choice.value): each * (victims - self._refused_victims(choice.value))
            for choice in self.defenses
        }

    @property
    def shared(self) -> list[tuple[Choice[Dataset], Choice[Protocol]]]:
        """Each dataset with each protocol by which clients share its images."""
        return [
            (data, protocol)
            for data, protocol in product(self.datasets, self.protocols)
            if data.value.is_shared_by(protocol.value)
        ]

    def with_timeout(self, seconds: float) -> "Sweep":
        """The same with that limit for a trial, and for a training."""
        training = self.training and replace(self.training, timeout=seconds)
        return replace(self, trial_timeout=seconds, training=training)

    @property
    def left_out(self) -> int:
        """The number of trials that are dropped because their attack does not apply."""
        each = len(self.model_seeds) * self.restarts
        return sum(each * self._refused_victims(choice.value) for choice in self.defenses)

    def _refused_victims(self, defense: Defense) -> int:
        """How many victims its attacks do not apply to, summed over the attacks."""
        images: Counter[str] = Counter()
        for choice in self.datasets:  # one dataset may be listed twice, for other images
            images[str(choice.value)] += len(choice.indices)
        return sum(images[meeting.dataset] for meeting in self.refused if meeting.defense == str(defense))

    @property
    def trainings(self) -> int:
        """How many trainings."""
        each = len(self.models) * len(self.protocols) * len(self.defenses)
        return each * len(self.training.seeds) if self.training else 0

    def takes(self, attack: Attack, *others: Any) -> bool:
        """Whether the sweep has trials of that attack on these objects; see `Meeting.of`."""
        return not self.refused or Meeting.of(attack, *others) not in self.refused

    def describe(self) -> str:
        """How many trials, and of what: `18 trials = 2 images x 9 defenses`."""
        crossed = len(self.shared) == len(self.datasets) * len(self.protocols)
        pairs = [(data, None) for data in self.datasets] if crossed else self.shared
        counts = {
            self.scale.modality.one: sum(len(data.indices) for data, _ in pairs),
            "model": len(self.models),
            "draw of weights": len(self.model_seeds),
            "protocol": len(self.protocols) if crossed else 1,
            "attack": len(self.attacks),
            "defense": len(self.defenses),
            "start": self.restarts,
        }
        left_out = f", less {self.left_out} whose attack does not apply" if self.refused else ""
        return _product("trial", self.size, counts, " at most" if self.spares else "") + left_out

    def describe_training(self) -> str:
        """How many trainings, and of what: `84 trainings = 28 defenses x 3 seeds`."""
        counts = {
            "model": len(self.models),
            "protocol": len(self.protocols),
            "defense": len(self.defenses),
            "seed": len(self.training.seeds) if self.training else 0,
        }
        return _product("training", self.trainings, counts)

    def canonical(self) -> dict[str, Any]:
        """All that decides which trials there are: two files that agree in this are one sweep."""
        return {
            "datasets": [[data.value.canonical(), list(data.indices)] for data in self.datasets],
            "models": [model.value.canonical() for model in self.models],
            "protocols": [protocol.value.canonical() for protocol in self.protocols],
            "attacks": [attack.value.canonical() for attack in self.attacks],
            "defenses": [defense.value.canonical() for defense in self.defenses],
            "model_seeds": list(self.model_seeds),
            "restarts": self.restarts,
            "training": self.training.canonical() if self.training else None,
        }


def _product(what: str, size: int, counts: Mapping[str, int], bound: str = "") -> str:
    parts = [f"{count} {_plural(each, count)}" for each, count in counts.items() if count > 1]
    return f"{size} {_plural(what, size)}{bound}" + (" = " + " x ".join(parts) if parts else "")


def _plural(what: str, count: int) -> str:
    return what if count == 1 else what.replace("draw of", "draws of") if " " in what else f"{what}s"
