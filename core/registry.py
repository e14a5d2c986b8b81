"""Finding a class by its name: a small table for each kind of thing, or the user's own file."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from leakbench.core.configured import Configured, SettingError, default_of, parse_arguments, setting_types
from leakbench.core.installed import installed, load
from leakbench.core.user_files import USER_CLASS, file_digest, load_user_class

T = TypeVar("T", bound=Configured)
_CALL = re.compile(r"(?P<name>[^()]+?)\s*(?:\((?P<arguments>.*)\))?", re.DOTALL)


class Registry(Generic[T]):
    """The known classes of one kind (`defense`, `model`, ...), by name.

    `name` may also be `file.py:ClassName`, a subclass of `base` in a file of the user's own, or what an
    installed package declares under the entry point `leakbench.KINDs`; our own names come first.
    """

    def __init__(self, kind: str, base: type[T], members: Iterable[type[T]]):
        self.kind = kind
        self.base = base
        self.members = {member.name: member for member in members}

    def __iter__(self) -> Iterator[type[T]]:
        return iter(self.members.values())

    def parse(self, text: str) -> T:
        """The object that `text`, such as `gaussian(variance=0.001)`, names.

        Raises:
            SettingError: unknown name (with the nearest known one), or settings that cannot be used.
        """
        match = _CALL.fullmatch(text.strip())
        if match is None:
            raise SettingError([("", f"expected name(setting=value, ...), got {text!r}")])
        try:
            settings = parse_arguments(match["arguments"] or "")
        except ValueError as error:
            raise SettingError([("", f"{text!r}: {error}")]) from None
        return self.build(match["name"], settings)

    def build(self, name: str, settings: dict[str, Any]) -> T:
        """The object `name` with these settings.

        Raises:
            SettingError: as `parse`.
        """
        return make(self.find(name), settings)

    def find(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            SettingError: unknown, or a file of the user's that cannot be used.
        """
        if name in self.members:
            return self.members[name]
        if name in installed(self.kind):
            cls = load(installed(self.kind)[name])
            return self.adopt(name, cls, Path(inspect.getfile(cls)))
        if USER_CLASS.fullmatch(name):
            return self.adopt(name, load_user_class(name), Path(name.rpartition(":")[0]))
        hint = "; a file of your own is named file.py:ClassName" if ".py" in name else ""
        raise SettingError([("", unknown_text(self.kind, name, self.known()) + hint)])

    def takes(self, cls: type) -> bool:
        """Whether a user's class is of this kind."""
        return issubclass(cls, self.base)

    def known(self) -> list[str]:
        """Every name that needs no file."""
        return [*self.members, *(name for name in installed(self.kind) if name not in self.members)]

    def adopt(self, name: str, cls: type, file: Path) -> type[T]:
        """A class from a file as a member of this kind, under the name it was asked for by."""
        if not issubclass(cls, self.base) or inspect.isabstract(cls):
            expected = f"a complete subclass of leakbench.{self.base.__name__}"
            raise SettingError([("", f"{name}: expected {expected}, got {_nature(cls)}")])
        taken = [each.name for each in fields(cls) if _is_taken(self.base, each.name)]
        if taken:
            text = f"{name}: expected another name for the setting {taken[0]!r}: every {self.kind} has one"
            raise SettingError([("", text)])
        wanted = self.base.one_of
        if wanted and all(getattr(cls, each) is getattr(self.base, each) for each in wanted):
            text = f"{name}: expected a class with one of {', '.join(wanted)}, got one without"
            raise SettingError([("", text)])
        named: type[T] = _named(cls, name, file_digest(file))  # type: ignore[arg-type]  # it is hashable
        return named


def make(cls: type[T], settings: dict[str, Any]) -> T:
    """An object of a class with these settings.

    Raises:
        SettingError: settings that it does not have, that are missing, or that cannot be used.
    """
    known = setting_types(cls)
    missing = [
        field.name for field in fields(cls) if default_of(field) is MISSING and field.name not in settings
    ]
    problems = [(key, unknown_text("setting", key, known)) for key in settings if key not in known]
    problems += [(key, "expected a value, got none") for key in missing]
    if problems:
        raise SettingError(problems)
    return cls(**settings)


@cache  # so that two objects of one name are of one class, and can be equal
def _named(cls: type, name: str, origin: str) -> Any:
    """A subclass of that name; the user's own class, which may go by several names, is left as it is."""
    about = {"name": name, "origin": origin, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), about)


def _is_taken(base: type, setting: str) -> bool:
    """Whether a setting of that name would hide a member that is not there to be set."""
    member = getattr(base, setting, None)
    own = setting in ("name", "origin") or callable(member) or isinstance(member, property)
    return own and setting != "strength"


def _nature(cls: type) -> str:
    missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
    return f"one without {missing}" if missing else f"a {cls.__mro__[1].__name__}"


def unknown_text(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name: what it may have meant, and what there is."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{suggestion} known: {', '.join(known) or 'none'}"
