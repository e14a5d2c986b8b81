"""A sweep file, checked: YAML in, a `Sweep` out, or every problem of the file at once."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from pathlib import Path
from typing import Any, TypeVar, get_origin

from leakbench.bench.attacks import ATTACKS, SUITES, Attack, attacks_of
from leakbench.bench.datasets import DATASETS, Dataset
from leakbench.bench.modalities import IMAGES, Modality
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS, Protocol
from leakbench.bench.training import Examples, Recipe
from leakbench.bench.verdicts import Scale
from leakbench.core.configured import Configured, SettingError, setting_types
from leakbench.core.errors import UserError
from leakbench.core.registry import Registry, make, unknown_text
from leakbench.core.user_files import USER_CLASS
from leakbench.core.words import in_seconds
from leakbench.defenses import DEFENSES, Defense, NoDefense
from leakbench.sweeps.ranges import LARGEST, parse_ranges, shown
from leakbench.sweeps.spec import Changes, Choice, Course, Sweep
from leakbench.sweeps.yaml_file import UnreadableFileError, read_yaml

T = TypeVar("T", bound=Configured)
MOST_TRIALS = 10_000_000  # the runner keeps the key of each

KEYS = (
    "datasets", "models", "protocols", "attacks", "suite", "exhaustive", "defenses", "model_seeds",
    "restarts", "snapshot_every", "trial_timeout", "training", "probes", "verdicts", "quick",
)  # fmt: skip

LISTS: Mapping[str, Registry[Any]] = {
    "datasets": DATASETS, "models": MODELS, "protocols": PROTOCOLS, "attacks": ATTACKS, "defenses": DEFENSES,
}  # fmt: skip

PROBES = ("index",)  # the security index: `sweeps.indices`

RECIPE_KEYS = tuple(setting_types(Recipe))
TRAINING_KEYS = ("train", "test", *RECIPE_KEYS, "seeds", "checkpoints", "timeout")


def read_sweep(
    file: Path,
    changes: Changes = Changes(),  # noqa: B008  # frozen
) -> tuple[Sweep, list[str]]:
    """The sweep that a YAML file describes, and one line `PLACE: expected ..., got ...` per problem.

    If there are problems, the sweep holds the parts of the file that could be understood.

    Raises:
        UserError: there is no such file, or it is not YAML.
    """
    content = _content(file)
    reader = _Reader()
    sweep = reader.read(file, reader.changed(content, changes))
    return replace(sweep, changes=changes), reader.problems


def read_content(file: Path, quick: bool) -> dict[str, Any]:
    """The keys and values of a sweep file, with those of a quick run if requested.

    Raises:
        UserError: there is no such file, it is not YAML, or it has no keys.
    """
    reader = _Reader()
    content = reader.changed(_content(file), Changes(quick))
    if not isinstance(content, Mapping):
        reader.report("", f"expected the keys {', '.join(KEYS)}, got {shown(content)}")
    if reader.problems:
        raise UserError(*(f"{file}: {problem}" for problem in reader.problems))
    return dict(content)


def _content(file: Path) -> Any:
    try:
        return read_yaml(file)
    except UnreadableFileError as error:
        raise UserError(f"{file}: {error}") from error


def named(content: Mapping[str, Any], key: str) -> list[str]:
    """The names in the list under a key, with grids unfolded; entries with problems are skipped."""
    return [str(choice.value) for choice in _Reader().choices(LISTS[key], content, key)]


@dataclass
class _Reader:
    """Turns YAML values into objects and collects what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def read(self, file: Path, content: Any) -> Sweep:
        if not isinstance(content, Mapping):
            self.report("", f"expected the keys {', '.join(KEYS)}, got {shown(content)}")
            content = {}
        for key in content:
            if key not in KEYS:
                self.report("", unknown_text("key", key, KEYS))
        attacked = "datasets" in content or "training" not in content
        defenses, notices = with_baseline(self.choices(DEFENSES, content, "defenses"))
        protocols = self.choices(PROTOCOLS, {"protocols": ["fedsgd"], **content}, "protocols")
        datasets = self.choices(DATASETS, content, "datasets") if attacked else ()
        modality = self.modality(datasets)
        usual = "lenet" if modality is IMAGES else "bert"
        sweep = Sweep(
            file=file,
            datasets=datasets,
            models=self.choices(MODELS, {"models": [usual], **content}, "models"),
            protocols=protocols,
            attacks=self.attacks(content, protocols, modality),
            suite=str(content.get("suite", "")),
            exhaustive=self.truth("exhaustive", content.get("exhaustive", "suite" not in content)),
            defenses=defenses,
            model_seeds=self.whole_numbers("model_seeds", content.get("model_seeds", 0)),
            restarts=self.count("restarts", content.get("restarts", 1), least=1),
            snapshot_every=self.count("snapshot_every", content.get("snapshot_every", 30), least=0),
            trial_timeout=self.seconds("trial_timeout", content.get("trial_timeout", 0)),
            scale=self.scale(content.get("verdicts", {}), modality),
            training=self.training(content["training"]) if "training" in content else None,
            probes=self.probes(content.get("probes", [])),
        )
        if sweep.size > MOST_TRIALS:
            self.report("", f"expected at most {MOST_TRIALS:,} trials in a sweep, got {sweep.describe()}")
        return replace(sweep, notices=notices + imports(sweep))

    def changed(self, content: Any, changes: Changes) -> Any:
        """The content with the changes applied."""
        content = self.shortened(content) if changes.quick else content
        if not isinstance(content, Mapping):
            return content
        if changes.suite:
            content = {**without_attacks(content), "suite": changes.suite}
        return {**content, "exhaustive": True} if changes.exhaustive else content

    def shortened(self, content: Any) -> Any:
        """The content with the values under its key `quick`; within `training`, key by key."""
        short = content.get("quick") if isinstance(content, Mapping) else None
        if not isinstance(short, Mapping):
            self.report("quick", f"expected keys and values for a quick run, got {shown(short)}")
            return content
        if "suite" in short or "attacks" in short:  # either one replaces both
            content = without_attacks(content)
        training = content.get("training")
        if isinstance(training, Mapping) and isinstance(short.get("training"), Mapping):
            short = {**short, "training": {**training, **short["training"]}}
        return {**content, **short}

    def report(self, place: str, text: str) -> None:
        self.problems.append(f"{place}: {text}" if place else text)

    def attacks(
        self, content: Mapping[str, Any], protocols: Sequence[Choice[Protocol]], modality: Modality
    ) -> tuple[Choice[Attack], ...]:
        """The attacks that are listed, or those of a suite and after them what is listed besides."""
        if "suite" not in content:
            usual = "dlg" if modality is IMAGES else "dlg-text"
            return self.choices(ATTACKS, {"attacks": [usual], **content}, "attacks")
        name = content["suite"]
        if not isinstance(name, str) or name not in SUITES:
            self.report("suite", unknown_text("suite", str(name), SUITES))
            return ()
        names = attacks_of(name, [choice.value for choice in protocols], modality)
        own = tuple(Choice("suite", ATTACKS.parse(each)) for each in names)
        more = self.choices(ATTACKS, content, "attacks") if "attacks" in content else ()
        for choice in more:
            if choice.value in [each.value for each in own]:
                self.report(choice.place, f"{choice.value} is already in the suite {name}")
        return own + more

    def probes(self, items: Any) -> tuple[str, ...]:
        """What is measured without an attack."""
        if not isinstance(items, list):
            self.report("probes", f"expected a list of {', '.join(PROBES)}, got {shown(items)}")
            return ()
        for place, item in enumerate(items):
            if item not in PROBES:
                self.report(f"probes[{place}]", unknown_text("probe", str(item), PROBES))
        return tuple(dict.fromkeys(map(str, items)))

    def training(self, content: Any) -> Course | None:
        """How models are trained; None if it cannot be understood."""
        if not isinstance(content, Mapping):
            self.report("training", f"expected the keys {', '.join(TRAINING_KEYS)}, got {shown(content)}")
            return None
        for key in content:
            if key not in TRAINING_KEYS:
                self.report("training", unknown_text("key", key, TRAINING_KEYS))
        train, test = (self.examples(content.get(name), f"training.{name}") for name in ("train", "test"))
        settings = {key: content[key] for key in RECIPE_KEYS if key in content}
        seeds = self.whole_numbers("training.seeds", content.get("seeds", 0))
        checkpoints = content.get("checkpoints", [])
        epochs = () if checkpoints == [] else self.whole_numbers("training.checkpoints", checkpoints)
        try:
            recipe = make(Recipe, settings)
        except SettingError as error:
            for setting, text in error.problems:
                self.report(f"training.{setting}", text)
            return None
        late = [epoch for epoch in epochs if epoch > recipe.epochs]
        if late:
            self.report("training.checkpoints", f"expected epochs in 0..{recipe.epochs}, got {late[0]}")
        timeout = self.seconds("training.timeout", content.get("timeout", 0))
        return Course(train, test, recipe, seeds, tuple(epochs), timeout) if train and test else None

    def modality(self, datasets: Sequence[Choice[Dataset]]) -> Modality:
        """Of the examples of all datasets: tables and figures show one score."""
        kinds = list(dict.fromkeys(data.value.modality for data in datasets)) or [IMAGES]
        if kinds[1:]:
            names = " and ".join(each.name for each in kinds)
            self.report("datasets", f"expected datasets of one kind in a sweep, got {names}")
        return kinds[0]

    def scale(self, content: Any, modality: Modality) -> Scale:
        """What counts as a leak."""
        if not isinstance(content, Mapping) or "kind" in content:
            self.report("verdicts", f"expected the keys leak, artifacts, got {shown(content)}")
            return Scale()
        usual = {"leak": modality.leak, "artifacts": modality.artifacts, "kind": modality.name}
        try:
            return make(Scale, usual | {str(key): value for key, value in content.items()})
        except SettingError as error:
            for setting, text in error.problems:
                self.report(f"verdicts.{setting}", text)
            return Scale()

    def examples(self, item: Any, place: str) -> Examples | None:
        """The images that one entry names."""
        before = len(self.problems)
        if not isinstance(item, Mapping) or "indices" not in item:
            self.report(place, f"expected a dataset with its indices, got {shown(item)}")
            return None
        found = list(self.unfold(DATASETS, item, place))
        if len(found) == 1:
            return Examples(found[0].value, found[0].indices)
        if len(self.problems) == before:
            self.report(place, f"expected one dataset, got {len(found)}")
        return None

    def count(self, place: str, value: Any, least: int) -> int:
        if type(value) is not int or value < least:
            self.report(place, f"expected a whole number >= {least}, got {shown(value)}")
            return least
        if value > LARGEST:
            self.report(place, f"expected at most {LARGEST}, got {shown(value)}")
        return value

    def truth(self, place: str, value: Any) -> bool:
        if type(value) is not bool:
            self.report(place, f"expected true or false, got {shown(value)}")
        return bool(value)

    def seconds(self, place: str, value: Any) -> float:
        try:
            return in_seconds(value)
        except ValueError as error:
            self.report(place, f"{error}, got {shown(value)}")
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
        """The choices in the list under `key`, with grids unfolded."""
        items = content.get(key)
        if not isinstance(items, list) or not items:
            found = "none" if items is None else shown(items)
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
                self.report(choice.place, f"{choice.value} is already listed, as {earlier}")
            first.update(dict.fromkeys(same, choice.place))
        return tuple(found_choices)

    def unfold(self, registry: Registry[T], item: Any, place: str) -> Iterator[Choice[T]]:
        """The choices that one entry of a list stands for."""
        item = {"name": item} if isinstance(item, str) else item
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
            kind = f"an {registry.kind}" if registry.kind == "attack" else f"a {registry.kind}"
            self.report(place, f"expected {kind} by name, or a mapping with a `name`, got {shown(item)}")
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
    """A sweep file's content without the keys that choose attacks."""
    return {key: value for key, value in content.items() if key not in ("suite", "attacks", "exhaustive")}


def _make(registry: Registry[T], name: str, settings: dict[str, Any]) -> T:
    if settings and "(" not in name:
        return registry.build(name, settings)
    if settings:
        raise SettingError([("", f"expected settings in {name!r} or as keys, got both")])
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
    notice = "defense 'none' added: every defense is compared with the undefended attack"
    return (Choice("defenses", NoDefense()), *defenses), (notice,)


def imports(sweep: Sweep) -> tuple[str, ...]:
    """One notice per user file that was imported: importing a file runs it."""
    files: dict[str, str] = {}
    named: tuple[tuple[Choice[Any], ...], ...] = (
        sweep.datasets, sweep.models, sweep.protocols, sweep.attacks, sweep.defenses
    )  # fmt: skip
    for choice in chain(*named):
        match = USER_CLASS.fullmatch(choice.value.name)
        if match:
            files.setdefault(match["file"], choice.place)
    return tuple(f"{file} is imported, because {place} names it" for file, place in files.items())
