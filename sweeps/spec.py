"""A sweep file, checked: YAML in, a `Sweep` out, or every problem of the file at once."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_origin

from leakbench.bench.attacks import ATTACKS, SUITES, Attack
from leakbench.bench.datasets import DATASETS, Dataset
from leakbench.bench.models import MODELS, Model
from leakbench.bench.protocols import PROTOCOLS, Protocol
from leakbench.bench.training import Examples, Recipe
from leakbench.bench.verdicts import Scale
from leakbench.core.configured import Configured, SettingError, setting_types
from leakbench.core.errors import UserError
from leakbench.core.registry import Registry, make, unknown_text
from leakbench.core.user_files import USER_CLASS
from leakbench.core.words import in_seconds
from leakbench.defenses import DEFENSES, Defense, NoDefense, Point
from leakbench.sweeps.yaml_file import UnreadableFileError, read_yaml

T = TypeVar("T", bound=Configured)


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One object that the file names, and where in the file."""

    place: str
    value: T
    indices: tuple[int, ...] = ()  # of a data set


@dataclass(frozen=True)
class Course:
    """How and on what every model is trained with every defense: the `training` of a sweep file."""

    train: Examples
    test: Examples
    recipe: Recipe
    seeds: tuple[int, ...] = (0,)
    checkpoints: tuple[int, ...] = ()  # epochs after which the weights are kept

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
    """What is asked for beside a sweep file."""

    quick: bool = False  # what the file has under that key in place of the rest
    suite: str = ""  # its attacks in place of the file's
    exhaustive: bool = False  # all attacks on all victims, whatever the file says

    @property
    def typed(self) -> str:
        """The options of `leakbench sweep` that ask for it."""
        options = (
            "--quick" * self.quick,
            f"--suite {self.suite}" * bool(self.suite),
            "--exhaustive" * self.exhaustive,
        )
        return " ".join(filter(None, options))


class Meeting(NamedTuple):
    """What an attack meets, by name: what decides whether it is for it."""

    attack: str
    dataset: str
    model: str
    protocol: str
    defense: str  # empty where it leaves the model alone

    @classmethod
    def of(
        cls, attack: Attack, dataset: Dataset, model: Model, protocol: Protocol, defense: Defense
    ) -> "Meeting":
        """With all that by name."""
        changed = str(defense) if Point.MODEL in defense.points() else ""
        return cls(str(attack), str(dataset), str(model), str(protocol), changed)


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
    suite: str = ""  # whose attacks they are
    refused: Mapping[Meeting, str] = field(default_factory=dict)  # left out of a suite, and why
    exhaustive: bool = True  # whether a victim that has leaked is attacked by the attacks that follow
    snapshot_every: int = 30  # outer steps between two pictures kept of a trial; 0 keeps none
    trial_timeout: float = 0  # seconds after which a trial without a result is an error; 0 is for ever
    training: Course | None = None
    probes: tuple[str, ...] = ()  # what is measured without an attack, of PROBES
    scale: Scale = field(default_factory=Scale)  # what counts as a leak
    notices: tuple[str, ...] = ()
    changes: Changes = field(default_factory=Changes)  # as they are in it

    def __len__(self) -> int:
        return self.size

    @property
    def spares(self) -> bool:
        """Whether what has leaked to one attack is spared the others, so that `size` is a bound."""
        return not self.exhaustive and len(self.attacks) > 1

    @property
    def size(self) -> int:
        """How many trials; more than `len` can tell, where a file asks for that."""
        pictures = sum(len(choice.indices) for choice in self.datasets)
        networks = len(self.models) * len(self.model_seeds)
        crossed = len(self.protocols) * len(self.attacks) * len(self.defenses)
        return pictures * networks * crossed * self.restarts - self.left_out

    @property
    def left_out(self) -> int:
        """How many trials there are not, since their attack is not for them."""
        images = {str(choice.value): len(choice.indices) for choice in self.datasets}
        alike = sum(Point.MODEL not in choice.value.points() for choice in self.defenses)
        each = len(self.model_seeds) * self.restarts
        return sum(
            each * images[meeting.dataset] * (1 if meeting.defense else alike) for meeting in self.refused
        )

    def takes(self, attack: Attack, *others: Any) -> bool:
        """Whether it holds trials of that attack on that; see `Meeting.of`."""
        return not self.refused or Meeting.of(attack, *others) not in self.refused

    def describe(self) -> str:
        """How many trials, and of what: `18 trials = 2 images x 9 defenses`."""
        counts = {
            "image": sum(len(data.indices) for data in self.datasets),
            "model": len(self.models),
            "draw of weights": len(self.model_seeds),
            "protocol": len(self.protocols),
            "attack": len(self.attacks),
            "defense": len(self.defenses),
            "start": self.restarts,
        }
        left_out = f", less {self.left_out} that their attack is not for" if self.refused else ""
        return _product("trial", self.size, counts, " at most" if self.spares else "") + left_out

    def describe_training(self) -> str:
        """How many trainings, and of what: `84 trainings = 28 defenses x 3 seeds`."""
        counts = {
            "model": len(self.models),
            "defense": len(self.defenses),
            "seed": len(self.training.seeds) if self.training else 0,
        }
        return _product("training", prod(counts.values()), counts)

    def canonical(self) -> dict[str, Any]:
        """All that decides which trials there are: two files that agree in it are one sweep."""
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


KEYS = (
    "datasets", "models", "protocols", "attacks", "suite", "exhaustive", "defenses", "model_seeds",
    "restarts", "snapshot_every", "trial_timeout", "training", "probes", "verdicts", "quick",
)  # fmt: skip

LISTS: Mapping[str, Registry[Any]] = {
    "datasets": DATASETS, "models": MODELS, "protocols": PROTOCOLS, "attacks": ATTACKS, "defenses": DEFENSES,
}  # fmt: skip

PROBES = ("index",)  # the security index: `sweeps.indices`

RECIPE_KEYS = tuple(setting_types(Recipe))
TRAINING_KEYS = ("train", "test", *RECIPE_KEYS, "seeds", "checkpoints")


def read_sweep(file: Path, changes: Changes = Changes()) -> tuple[Sweep, list[str]]:
    """The sweep that a YAML file describes, and a line `PLACE: expected ..., got ...` a problem.

    With problems, the sweep holds what could be understood of the file.

    Raises:
        UserError: no such file, or no YAML.
    """
    content = _content(file)
    reader = _Reader()
    sweep = reader.read(file, reader.changed(content, changes))
    return replace(sweep, changes=changes), reader.problems


def read_content(file: Path, quick: bool) -> dict[str, Any]:
    """The keys and values of a sweep file, with those of a quick run if asked for.

    Raises:
        UserError: no such file, no YAML, no keys.
    """
    reader = _Reader()
    content = reader.changed(_content(file), Changes(quick))
    if not isinstance(content, Mapping):
        reader.report("", f"expected the keys {', '.join(KEYS)}, got {_shown(content)}")
    if reader.problems:
        raise UserError(*(f"{file}: {problem}" for problem in reader.problems))
    return dict(content)


def _content(file: Path) -> Any:
    try:
        return read_yaml(file)
    except UnreadableFileError as error:
        raise UserError(f"{file}: {error}") from error


def named(content: Mapping[str, Any], key: str) -> list[str]:
    """What the list under a key names, its grids unfolded; what cannot be understood is left out."""
    return [str(choice.value) for choice in _Reader().choices(LISTS[key], content, key)]


@dataclass
class _Reader:
    """Turns YAML values into objects and collects what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def read(self, file: Path, content: Any) -> Sweep:
        if not isinstance(content, Mapping):
            self.report("", f"expected the keys {', '.join(KEYS)}, got {_shown(content)}")
            content = {}
        for key in content:
            if key not in KEYS:
                self.report("", unknown_text("key", key, KEYS))
        attacked = "datasets" in content or "training" not in content
        defenses, notices = with_baseline(self.choices(DEFENSES, content, "defenses"))
        sweep = Sweep(
            file=file,
            datasets=self.choices(DATASETS, content, "datasets") if attacked else (),
            models=self.choices(MODELS, {"models": ["lenet"], **content}, "models"),
            protocols=self.choices(PROTOCOLS, {"protocols": ["fedsgd"], **content}, "protocols"),
            attacks=self.attacks(content),
            suite=str(content.get("suite", "")),
            exhaustive=self.truth("exhaustive", content.get("exhaustive", "suite" not in content)),
            defenses=defenses,
            model_seeds=self.whole_numbers("model_seeds", content.get("model_seeds", 0)),
            restarts=self.count("restarts", content.get("restarts", 1), least=1),
            snapshot_every=self.count("snapshot_every", content.get("snapshot_every", 30), least=0),
            trial_timeout=self.seconds("trial_timeout", content.get("trial_timeout", 0)),
            scale=self.scale(content.get("verdicts", {})),
            training=self.training(content["training"]) if "training" in content else None,
            probes=self.probes(content.get("probes", [])),
        )
        if sweep.size > MOST_TRIALS:
            self.report("", f"expected at most {MOST_TRIALS:,} trials in a sweep, got {sweep.describe()}")
        return replace(sweep, notices=notices + imports(sweep))

    def changed(self, content: Any, changes: Changes) -> Any:
        """The content with what is asked for beside it."""
        content = self.shortened(content) if changes.quick else content
        if not isinstance(content, Mapping):
            return content
        if changes.suite:
            content = {**without_attacks(content), "suite": changes.suite}
        return {**content, "exhaustive": True} if changes.exhaustive else content

    def shortened(self, content: Any) -> Any:
        """The content with what its key `quick` has instead; within `training`, key by key."""
        short = content.get("quick") if isinstance(content, Mapping) else None
        if not isinstance(short, Mapping):
            self.report("quick", f"expected keys and values for a quick run, got {_shown(short)}")
            return content
        if "suite" in short or "attacks" in short:  # one stands for the other
            content = without_attacks(content)
        training = content.get("training")
        if isinstance(training, Mapping) and isinstance(short.get("training"), Mapping):
            short = {**short, "training": {**training, **short["training"]}}
        return {**content, **short}

    def report(self, place: str, text: str) -> None:
        self.problems.append(f"{place}: {text}" if place else text)

    def attacks(self, content: Mapping[str, Any]) -> tuple[Choice[Attack], ...]:
        """Those that are listed, or those of a suite."""
        if "suite" not in content:
            return self.choices(ATTACKS, {"attacks": ["dlg"], **content}, "attacks")
        name = content["suite"]
        if "attacks" in content:
            self.report("suite", "expected attacks or a suite, got both")
        if not isinstance(name, str) or name not in SUITES:
            self.report("suite", unknown_text("suite", str(name), SUITES))
            return ()
        return tuple(Choice("suite", ATTACKS.parse(each)) for each in SUITES[name])

    def probes(self, items: Any) -> tuple[str, ...]:
        """What is measured without an attack."""
        if not isinstance(items, list):
            self.report("probes", f"expected a list of {', '.join(PROBES)}, got {_shown(items)}")
            return ()
        for place, item in enumerate(items):
            if item not in PROBES:
                self.report(f"probes[{place}]", unknown_text("probe", str(item), PROBES))
        return tuple(dict.fromkeys(map(str, items)))

    def training(self, content: Any) -> Course | None:
        """How models are trained; None where that cannot be understood."""
        if not isinstance(content, Mapping):
            self.report("training", f"expected the keys {', '.join(TRAINING_KEYS)}, got {_shown(content)}")
            return None
        for key in content:
            if key not in TRAINING_KEYS:
                self.report("training", unknown_text("key", key, TRAINING_KEYS))
        train, test = (self.examples(content.get(name), f"training.{name}") for name in ("train", "test"))
        settings = {key: content[key] for key in RECIPE_KEYS if key in content}
        seeds = self.whole_numbers("training.seeds", content.get("seeds", 0))
        checkpoints = content.get("checkpoints", [])
        epochs = checkpoints and self.whole_numbers("training.checkpoints", checkpoints)
        try:
            recipe = make(Recipe, settings)
        except SettingError as error:
            for setting, text in error.problems:
                self.report(f"training.{setting}", text)
            return None
        late = [epoch for epoch in epochs if epoch > recipe.epochs]
        if late:
            self.report("training.checkpoints", f"expected epochs in 0..{recipe.epochs}, got {late[0]}")
        return Course(train, test, recipe, seeds, tuple(epochs)) if train and test else None

    def scale(self, content: Any) -> Scale:
        """What counts as a leak."""
        if not isinstance(content, Mapping):
            self.report("verdicts", f"expected the keys leak, artifacts, got {_shown(content)}")
            return Scale()
        try:
            return make(Scale, {str(key): value for key, value in content.items()})
        except SettingError as error:
            for setting, text in error.problems:
                self.report(f"verdicts.{setting}", text)
            return Scale()

    def examples(self, item: Any, place: str) -> Examples | None:
        """The images that one entry names."""
        before = len(self.problems)
        if not isinstance(item, Mapping) or "indices" not in item:
            self.report(place, f"expected a dataset with its indices, got {_shown(item)}")
            return None
        found = list(self.unfold(DATASETS, item, place))
        if len(found) == 1:
            return Examples(found[0].value, found[0].indices)
        if len(self.problems) == before:
            self.report(place, f"expected one dataset, got {len(found)}")
        return None

    def count(self, place: str, value: Any, least: int) -> int:
        if type(value) is not int or value < least:
            self.report(place, f"expected a whole number >= {least}, got {_shown(value)}")
            return least
        if value > LARGEST:
            self.report(place, f"expected at most {LARGEST}, got {_shown(value)}")
        return value

    def truth(self, place: str, value: Any) -> bool:
        if type(value) is not bool:
            self.report(place, f"expected true or false, got {_shown(value)}")
        return bool(value)

    def seconds(self, place: str, value: Any) -> float:
        try:
            return in_seconds(value)
        except ValueError as error:
            self.report(place, f"{error}, got {_shown(value)}")
            return 0

    def whole_numbers(self, place: str, value: Any) -> tuple[int, ...]:
        try:
            numbers = parse_ranges(value)
        except ValueError as error:
            self.report(place, str(error))
            return ()
        repeated = [number for number, count in Counter(numbers).items() if count > 1]
        if repeated:
            self.report(place, f"{repeated[0]} given twice")
        return numbers

    def choices(self, registry: Registry[T], content: Mapping[str, Any], key: str) -> tuple[Choice[T], ...]:
        """What the list under `key` names, its grids unfolded."""
        items = content.get(key)
        if not isinstance(items, list) or not items:
            found = "none" if items is None else _shown(items)
            self.report(key, f"expected a list of one {registry.kind} or more, got {found}")
            return ()
        found_choices = [
            choice
            for position, item in enumerate(items)
            for choice in self.unfold(registry, item, f"{key}[{position}]")
        ]
        first: dict[tuple[T, int | None], str] = {}
        for choice in found_choices:
            same = [(choice.value, index) for index in choice.indices or (None,)]
            earlier = next((first[each] for each in same if each in first), None)
            if earlier is not None:
                self.report(choice.place, f"{choice.value} is there already, as {earlier}")
            first.update(dict.fromkeys(same, choice.place))
        return tuple(found_choices)

    def unfold(self, registry: Registry[T], item: Any, place: str) -> Iterator[Choice[T]]:
        """The choices that one entry of a list stands for."""
        item = {"name": item} if isinstance(item, str) else item
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            kind = f"an {registry.kind}" if registry.kind == "attack" else f"a {registry.kind}"
            self.report(place, f"expected {kind} by name, or a mapping with a `name`, got {_shown(item)}")
            return
        settings = {str(key): value for key, value in item.items() if key != "name"}
        indices: tuple[int, ...] = ()
        if registry.kind == "dataset":
            indices = self.whole_numbers(f"{place}.indices", settings.pop("indices", 0))
        for cell in self.cells(registry, item["name"], settings, place):
            try:
                yield Choice(place, _make(registry, item["name"], cell), indices)
            except SettingError as error:
                for setting, text in error.problems:
                    self.report(f"{place}.{setting}" if setting else place, text)

    def cells(
        self, registry: Registry[T], name: str, settings: dict[str, Any], place: str
    ) -> Iterator[dict[str, Any]]:
        """The grid that lists among the settings span."""
        axes = []
        for setting, value in settings.items():
            values = value if _is_axis(registry, name, setting, value) else [value]
            if not values:
                self.report(f"{place}.{setting}", "expected one value or more, got an empty list")
            axes.append([(setting, each) for each in values])
        return map(dict, product(*axes))


def without_attacks(content: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep file's content without what says by whom."""
    return {key: value for key, value in content.items() if key not in ("suite", "attacks", "exhaustive")}


def _make(registry: Registry[T], name: str, settings: dict[str, Any]) -> T:
    if settings and "(" not in name:
        return registry.build(name, settings)
    if settings:
        raise SettingError([("", f"expected settings in {name!r} or beside it, got both")])
    return registry.parse(name)


def _is_axis(registry: Registry[Any], name: str, setting: str, value: Any) -> bool:
    """Whether a list is a grid; for a setting that is itself a list, a list of lists is."""
    if not isinstance(value, list):
        return False
    try:
        kind = setting_types(registry.find(name)).get(setting)
    except SettingError:
        return True
    return get_origin(kind) is not tuple or any(isinstance(each, list) for each in value)


def with_baseline(
    defenses: tuple[Choice[Defense], ...],
) -> tuple[tuple[Choice[Defense], ...], tuple[str, ...]]:
    """The defenses with the undefended baseline among them, and a notice where it was added."""
    if any(isinstance(choice.value, NoDefense) for choice in defenses):
        return defenses, ()
    notice = "defense 'none' added: every defense is judged beside the undefended attack"
    return (Choice("defenses", NoDefense()), *defenses), (notice,)


def imports(sweep: Sweep) -> tuple[str, ...]:
    """A notice for each file of the user's that was imported, which runs it."""
    files: dict[str, str] = {}
    named: tuple[tuple[Choice[Any], ...], ...] = (
        sweep.datasets, sweep.models, sweep.protocols, sweep.attacks, sweep.defenses
    )  # fmt: skip
    for choice in chain(*named):
        match = USER_CLASS.fullmatch(choice.value.name)
        if match:
            files.setdefault(match["file"], choice.place)
    return tuple(f"{file} is imported, as {place} names it" for file, place in files.items())


MOST_TRIALS = 10_000_000  # the runner knows each by its key
LARGEST = 9_999_999  # of an index or a seed
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+))?\s*")


def parse_ranges(value: Any) -> tuple[int, ...]:
    """Whole numbers >= 0 from 5, "0-19", "0-4,7" or a list of such.

    Raises:
        ValueError: whose text says what was expected.
    """
    spans = [span for each in (value if isinstance(value, list) else [value]) for span in _spans(each)]
    if not spans or not all(0 <= first <= last <= LARGEST for first, last in spans):
        expected = f'expected whole numbers in 0..{LARGEST} such as 3, "0-19" or [0, 5, 7]'
        raise ValueError(f"{expected}, got {_shown(value)}")
    return tuple(number for first, last in spans for number in range(first, last + 1))


def _spans(value: Any) -> list[tuple[int, int]]:
    """The (first, last) pairs of one number or text; a pair out of order where it is neither."""
    if type(value) is int:
        return [(value, value)]
    matches = [_RANGE.fullmatch(part) for part in value.split(",")] if isinstance(value, str) else [None]
    return [(int(m[1]), int(m[2] or m[1])) if m else (1, 0) for m in matches]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _product(what: str, size: int, counts: Mapping[str, int], bound: str = "") -> str:
    parts = [f"{count} {_plural(each, count)}" for each, count in counts.items() if count > 1]
    return f"{size} {_plural(what, size)}{bound}" + (" = " + " x ".join(parts) if parts else "")


def _plural(what: str, count: int) -> str:
    return what if count == 1 else what.replace("draw of", "draws of") if " " in what else f"{what}s"
