"""Defenses that other installed packages bring, by their entry points."""

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from defenses.base import Defense, Point
from defenses.configured import SettingError
from defenses.errors import one_line
from defenses.registry import Registry

GROUP = "leakbench.defenses"


class DefenseRegistry(Registry[Defense]):
    """The registry of defenses: our own, those of installed packages, and those of a user's file."""

    def known(self) -> list[str]:
        """Every name that needs no file."""
        return [*self.members, *(name for name in installed() if name not in self.members)]

    def find(self, name: str) -> type[Defense]:
        """See `Registry.find`; our own names come first."""
        if name in self.members or name not in installed():
            return super().find(name)
        entry = installed()[name]
        cls = _load(entry)
        return self.adopt(name, cls, Path(inspect.getfile(cls)))

    def adopt(self, name: str, cls: type, file: Path) -> type[Defense]:
        """See `Registry.adopt`; a defense must act somewhere."""
        found = super().adopt(name, cls, file)
        if not found.points():
            methods = ", ".join(Point)
            raise SettingError([("", f"{name}: expected a class with one of {methods}, got one without")])
        return found


@cache
def installed() -> dict[str, EntryPoint]:
    """{name: entry point}, as the packages of this environment declare them."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> type:
    package = entry.dist.name if entry.dist else entry.value
    try:
        cls = entry.load()
    except (Exception, SystemExit) as error:  # another package's code may do anything on import
        text = f"{entry.name} of {package}: could not be imported: {one_line(error)}"
        raise SettingError([("", text)]) from error
    if not isinstance(cls, type):
        text = f"{entry.name} of {package}: expected a class at {entry.value}, got a {type(cls).__name__}"
        raise SettingError([("", text)])
    return cls
