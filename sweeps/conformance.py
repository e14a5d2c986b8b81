"""What `leakbench check` tries of a plug-in: which there are in a file, and what comes of each attempt."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import isclass
from itertools import product
from pathlib import Path
from typing import Any

from leakbench.bench.attacks import ATTACKS, NotApplicableError
from leakbench.core.configured import Configured, SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.registry import Registry
from leakbench.core.user_files import USER_CLASS, load_user_class, load_user_file
from leakbench.defenses import DEFENSES, ContractError, Defense

CHECKED: tuple[Registry[Any], ...] = (DEFENSES, ATTACKS)

Attempt = Callable[[], str | None]  # tells what is wrong, or raises


@dataclass(frozen=True)
class Finding:
    """One thing that was tried, and what was wrong with it; nothing, if all was right."""

    what: str
    problem: str
    applies: bool = True  # whether it is for such a case at all; if not, the problem says why


def defenses_in(name: str) -> list[Defense]:
    """Every defense that `file.py`, `file.py:Class` or a name stands for, with the settings it declares.

    Raises:
        UserError: no such file or class, no defense in it, or settings that cannot be used.
    """
    return plugins_in(name, (DEFENSES,))


def plugins_in(name: str, registries: tuple[Registry[Any], ...] = CHECKED) -> list[Any]:
    """The same for every kind that is checked.

    Raises:
        UserError: likewise.
    """
    try:
        names = _classes_in(Path(name), registries) if name.endswith(".py") else [name]
        return [plugin for each in names for plugin in declared(each, _registry_of(each, registries))]
    except SettingError as error:
        lines = (f"{setting}: {text}" if setting else text for setting, text in error.problems)
        raise UserError(*(line if name in line else f"{name}: {line}" for line in lines)) from error


def _registry_of(name: str, registries: tuple[Registry[Any], ...]) -> Registry[Any]:
    """The one that a name belongs to; the first, which says what is wrong, where it belongs to none."""
    if USER_CLASS.fullmatch(name):
        cls = load_user_class(name)
        return next((each for each in registries if issubclass(cls, each.base)), registries[0])
    return next((each for each in registries if name.partition("(")[0] in each.known()), registries[0])


def _classes_in(file: Path, registries: tuple[Registry[Any], ...]) -> list[str]:
    module = load_user_file(file)
    bases = tuple(each.base for each in registries)
    found = [
        f"{file}:{name}"
        for name, each in vars(module).items()
        if isclass(each) and issubclass(each, bases) and each.__module__ == module.__name__
    ]
    if not found:
        kinds = " or ".join(base.__name__ for base in bases)
        raise SettingError([("", f"{file}: expected a subclass of {kinds}, found none")])
    return found


def declared(name: str, registry: Registry[Any]) -> Iterator[Configured]:
    """A plug-in with every combination of its `grid`; with its defaults, where it has none.

    Raises:
        SettingError: unknown, or settings that cannot be used.
    """
    grid = registry.find(name).grid
    if not isinstance(grid, dict) or not all(isinstance(values, list | tuple) for values in grid.values()):
        raise SettingError([("grid", f"expected {{setting: [values]}}, got {grid!r}")])
    for values in product(*grid.values()):
        yield registry.build(name, dict(zip(grid, values, strict=True)))


def tried(plugin: Configured, attempts: Iterator[tuple[str, Attempt]]) -> Iterator[Finding]:
    """What came of each attempt, one after the other."""
    for what, attempt in attempts:
        try:
            with foreign(ContractError, NotApplicableError):
                problem = attempt()
        except ContractError as error:
            problem = str(error).removeprefix(f"defense {plugin}: ").removeprefix(f"attack {plugin}: ")
        except NotApplicableError as error:
            yield Finding(what, " ".join(str(error).split()), applies=False)
            continue
        except ForeignError as error:
            problem = str(error)
        yield Finding(what, problem or "")


def read_back(plugin: Configured, registry: Registry[Any]) -> str | None:
    """What is wrong with a plug-in's text."""
    again = registry.parse(str(plugin))
    return None if again == plugin else f"{plugin} is read back as {again}"
