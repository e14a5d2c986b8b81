"""The plug-ins that a name stands for: those of a file, or one of a kind that is checked."""

from collections.abc import Iterator
from inspect import isclass
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from leakbench.bench.attacks import ATTACKS
from leakbench.bench.datasets import DATASETS
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.core.configured import Configured, SettingError
from leakbench.core.errors import UserError
from leakbench.core.registry import Registry, unknown_text
from leakbench.core.user_files import USER_CLASS, load_user_class, load_user_file
from leakbench.defenses import DEFENSES, Defense

CHECKED: tuple[Registry[Any], ...] = (DEFENSES, ATTACKS, DATASETS, MODELS, PROTOCOLS)


def defenses_in(name: str) -> list[Defense]:
    """Every defense that `file.py`, `file.py:Class` or a name stands for, with the settings it declares.

    A name with settings, `gaussian(std=0.1)`, stands for itself.

    Raises:
        UserError: no such file or class, no defense in it, or settings that cannot be used.
    """
    return plugins_in(name, (DEFENSES,))


def plugins_in(name: str, registries: tuple[Registry[Any], ...] = CHECKED) -> list[Any]:
    """The same for every kind that is checked.

    Raises:
        UserError: as in `defenses_in`.
    """
    try:
        names = _classes_in(Path(name), registries) if name.endswith(".py") else [name]
        return [plugin for each in names for plugin in declared(each, _registry_of(each, registries))]
    except SettingError as error:
        lines = (f"{setting}: {text}" if setting else text for setting, text in error.problems)
        raise UserError(*(line if name in line else f"{name}: {line}" for line in lines)) from error


def _registry_of(name: str, registries: tuple[Registry[Any], ...]) -> Registry[Any]:
    """The registry that a name belongs to; if none, the first, which says what is wrong.

    Raises:
        SettingError: several are searched, and none knows the name.
    """
    name = name.partition("(")[0]
    if USER_CLASS.fullmatch(name):
        cls = load_user_class(name)
        return next((each for each in registries if each.takes(cls)), registries[0])
    short = name.partition(":")[0]  # of `folder:PATH`
    found = [each for each in registries if short in each.known()]
    if not found and len(registries) > 1:
        known = [each for registry in registries for each in registry.known()]
        raise SettingError([("", unknown_text("plug-in", name, known))])
    return found[0] if found else registries[0]


def _classes_in(file: Path, registries: tuple[Registry[Any], ...]) -> list[str]:
    module = load_user_file(file)
    bases = tuple(each.base for each in registries)
    own = {
        f"{file}:{name}": each
        for name, each in vars(module).items()
        if isclass(each) and each.__module__ == module.__name__
    }
    found = [name for name, each in own.items() if issubclass(each, bases)]
    if not found:
        *others, last = (base.__name__ for base in bases)
        kinds = f"{', '.join(others)} or {last}" if others else last
        # only some modules are models; others are their layers
        modules = (name for name, each in own.items() if MODELS in registries and issubclass(each, nn.Module))
        hint = next((f"; check a model by its name, such as {name}" for name in modules), "")
        raise SettingError([("", f"{file}: expected a subclass of {kinds}, found none{hint}")])
    return found


def declared(name: str, registry: Registry[Any]) -> Iterator[Configured]:
    """A plug-in with the settings of its name, or with every combination of its `grid`, or its defaults.

    Raises:
        SettingError: unknown, or settings that cannot be used.
    """
    if name not in registry.known() and not USER_CLASS.fullmatch(name):
        yield registry.parse(name)
        return
    grid = registry.find(name).grid
    if not isinstance(grid, dict) or not all(isinstance(values, list | tuple) for values in grid.values()):
        raise SettingError([("grid", f"expected {{setting: [values]}}, got {grid!r}")])
    for values in product(*grid.values()):
        yield registry.build(name, dict(zip(grid, values, strict=True)))
