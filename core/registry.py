"""Finds a class by name: in the table of its kind, in an installed package, or in a user's file."""

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

    A name may also be `file.py:ClassName`, a subclass of `base` in a user's file, or a name that an
    installed package declares under the entry point `leakbench.KINDs`; built-in names take precedence.
    """

    def __init__(self, kind: str, base: type[T], members: Iterable[type[T]]):
        self.kind = kind
        self.base = base
        self.members = {member.name: member for member in members}

    def __iter__(self) -> Iterator[type[T]]:
        return iter(self.members.values())

    def parse(self, text: str) -> T:
        """The object named by `text`, such as `gaussian(variance=0.001)`.

        Raises:
            SettingError: an unknown name (the text suggests the nearest one) or settings that cannot be used.
        """
        return self.build(*name_and_settings(text))

    def build(self, name: str, settings: dict[str, Any]) -> T:
        """The object `name` with these settings.

        Raises:
            SettingError: as in `parse`.
        """
        return make(self.find(name), settings)

    def find(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            SettingError: the name is unknown, or the user's file cannot be used.
        """
        if name in self.members:
            return self.members[name]
        if name in installed(self.kind):
            cls = load(installed(self.kind)[name])
            return self.adopt(name, cls, Path(inspect.getfile(cls)))
        if USER_CLASS.fullmatch(name):
            return self.adopt(name, load_user_class(name), Path(name.rpartition(":")[0]))
        hint = "; to use your own file, write file.py:ClassName" if ".py" in name else ""
        raise SettingError([("", unknown_text(self.kind, name, self.known()) + hint)])

    def takes(self, cls: type) -> bool:
        """Whether a user's class is of this kind."""
        return issubclass(cls, self.base)

    def known(self) -> list[str]:
        """Every name that can be used without a file: built in or from an installed package."""
        return [*self.members, *(name for name in installed(self.kind) if name not in self.members)]

    def adopt(self, name: str, cls: type, file: Path) -> type[T]:
        """A user's class as a member of this kind, under the name that the user gave.

        Raises:
            SettingError: it is not a complete subclass of `base`, or one of its settings hides a member.
        """
        if not issubclass(cls, self.base) or inspect.isabstract(cls):
            expected = f"a complete subclass of leakbench.{self.base.__name__}"
            raise SettingError([("", f"{name}: expected {expected}, got {_nature(cls)}")])
        taken = [each.name for each in fields(cls) if _is_taken(self.base, each.name)]
        if taken:
            text = f"{name}: expected another name for setting {taken[0]!r}, a member of every {self.kind}"
            raise SettingError([("", text)])
        wanted = self.base.one_of
        if wanted and all(getattr(cls, each) is getattr(self.base, each) for each in wanted):
            text = f"{name}: expected one of {', '.join(wanted)} to be overridden, found none"
            raise SettingError([("", text)])
        named: type[T] = _named(cls, name, file_digest(file))  # type: ignore[arg-type]  # it is hashable
        return named


def name_and_settings(text: str) -> tuple[str, dict[str, Any]]:
    """`gaussian(variance=0.001)` as `gaussian` and its settings.

    Raises:
        SettingError: a text of another form.
    """
    match = _CALL.fullmatch(text.strip())
    if match is None:
        raise SettingError([("", f"expected name(setting=value, ...), got {text!r}")])
    try:
        return match["name"], parse_arguments(match["arguments"] or "")
    except ValueError as error:
        raise SettingError([("", f"{text!r}: {error}")]) from None


def make(cls: type[T], settings: dict[str, Any]) -> T:
    """An object of a class with these settings.

    Raises:
        SettingError: settings that are unknown, missing or cannot be used.
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


@cache  # so that two objects of the same name have the same class and can be equal
def _named(cls: type, name: str, origin: str) -> Any:
    """A subclass with that name; the user's class, which may have several names, is not changed."""
    about = {"name": name, "origin": origin, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), about)


def _is_taken(base: type, setting: str) -> bool:
    """Whether a setting of that name would hide a member of the base class that is not a setting."""
    member = getattr(base, setting, None)
    own = setting in ("name", "origin") or callable(member) or isinstance(member, property)
    return own and setting not in ("strength", "error_feedback")


def _nature(cls: type) -> str:
    missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
    return f"one without {missing}" if missing else f"a {cls.__mro__[1].__name__}"


def unknown_text(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name: the nearest known one, and all known ones."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    suggestion = f"; did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{suggestion} known: {', '.join(known) or 'none'}"
