"""Objects defined by their settings: they print as their own constructor and are built from that text.

`gaussian(variance=0.001)` is the name of a defense in sweep files, tables and figures. Models,
attacks and datasets are named in the same way.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from leakbench.core.ranges import Range

PLAIN_TEXT = re.compile(r"[\w./:+-]+")


class SettingError(ValueError):
    """Settings that cannot be used.

    `problems` holds one (setting, sentence) pair per problem; the setting is "" if the sentence is
    about the whole object.
    """

    def __init__(self, problems: list[tuple[str, str]]):
        self.problems = problems
        super().__init__("; ".join(f"{name}: {text}" if name else text for name, text in problems))


@dataclass(frozen=True)
class Configured:
    """Base of everything that a sweep file can name. A subclass is a frozen dataclass.

    A setting that does not affect how the object behaves is a field with `compare=False`; it is left
    out of the text.

    Types are checked when the object is created, with the ranges of `core.ranges` where they have one. If
    all fit, so are the constraints that a type cannot express (either-or), which a subclass yields from
    `problems()`.

    Raises:
        SettingError: with every problem of the settings, not just the first.
    """

    name: ClassVar[str] = ""
    origin: ClassVar[str] = ""  # digest of the user's file that defines the class
    citation: ClassVar[str] = ""  # BibTeX entry of the paper
    grid: ClassVar[dict[str, list[Any]]] = {}  # {setting: values} to try, in all combinations
    one_of: ClassVar[tuple[str, ...]] = ()  # methods of which a class of this kind must override at least one

    def __post_init__(self) -> None:
        found = list(self._coerce_types()) or list(self.problems())
        if found:
            raise SettingError(found)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield a (setting, "expected ..., got ...") pair for each value that does not fit the others."""
        return iter(())

    def _coerce_types(self) -> Iterator[tuple[str, str]]:
        for setting, kind in setting_types(type(self)).items():
            value = getattr(self, setting)
            try:
                object.__setattr__(self, setting, coerce(value, kind))
            except ValueError as error:
                yield setting, f"expected {error}, got {value!r}"

    def settings(self) -> dict[str, Any]:
        """Every setting with its value, defaults included."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def canonical(self) -> dict[str, Any]:
        """Everything that affects how the object behaves; a trial's key is a hash of it."""
        decisive = {field.name: getattr(self, field.name) for field in fields(self) if field.compare}
        return {"name": self.name, "origin": self.origin, **decisive}

    def __str__(self) -> str:
        return self._text(self.name, self.settings())

    @property
    def own_name(self) -> str:
        """The name without the path of the user's file.

        Random draws are addressed by this and by `address`, so that a file gives the same numbers
        in any folder.
        """
        return self.name.rpartition(":")[2]

    @property
    def address(self) -> str:
        """The text without the folders of the files it names; see `own_name`."""
        values = {setting: _without_folder(value) for setting, value in self.settings().items()}
        return self._text(self.own_name, values)

    def _text(self, name: str, values: Mapping[str, Any]) -> str:
        changed = [
            f"{field.name}={format_value(values[field.name])}"
            for field in fields(self)
            if field.compare and getattr(self, field.name) != default_of(field)
        ]
        return f"{name}({', '.join(changed)})" if changed else name


def _without_folder(value: Any) -> Any:
    return value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value


def setting_types(cls: type) -> dict[str, Any]:
    """{setting: annotated type} of a Configured class, in order."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in fields(cls)}


def default_of(field: "Field[Any]") -> Any:
    """The default of a dataclass field, or MISSING if a value must be given."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def coerce(value: Any, kind: Any) -> Any:
    """`value` as the annotated type `kind`: lists become tuples, and whole numbers become floats.

    Raises:
        ValueError: the value does not fit; the text says what was expected.
    """
    if kind is Any:
        return _plain(value)
    origin = get_origin(kind)
    if origin is Annotated:
        return _coerce_range(value, *ranged(kind))
    if origin in (Union, UnionType):
        return _coerce_union(value, get_args(kind))
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError("one of " + ", ".join(map(str, get_args(kind))))
        return value
    if origin in (tuple, list):
        item = get_args(kind)[0]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"a {describe(kind)}")
        return tuple(coerce(each, item) for each in value)
    if origin is dict:
        item = get_args(kind)[1]
        if not isinstance(value, Mapping):
            raise ValueError(f"a {describe(kind)}")
        return {str(name): coerce(each, item) for name, each in value.items()}
    if kind is float and type(value) in (int, float):
        if not -sys.float_info.max <= value <= sys.float_info.max:  # also rejects huge whole numbers and NaN
            raise ValueError("a finite number")
        return float(value)
    if type(value) is not kind:
        raise ValueError(_with_article(describe(kind)))
    return value


def _plain(value: Any) -> Any:
    """A value that can be written as text: any YAML value except a mapping; lists become tuples."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError("a number, text, true, false, none or a list of them")
    return value


def _coerce_range(value: Any, kind: Any, allowed: Range | None) -> Any:
    found = coerce(value, kind)
    if allowed and found not in allowed:
        raise ValueError(f"a {describe(kind)} {allowed}")
    return found


def _coerce_union(value: Any, kinds: tuple[Any, ...]) -> Any:
    if value is None and NoneType in kinds:
        return None
    expected = []
    for kind in kinds:
        if kind is NoneType:
            continue
        try:
            return coerce(value, kind)
        except ValueError as error:
            expected.append(str(error))
    raise ValueError(" or ".join(expected))


def ranged(kind: Any) -> tuple[Any, Range | None]:
    """An annotated type without what it is annotated with, and the range among that; see `core.ranges`."""
    if get_origin(kind) is not Annotated:
        return kind, None
    plain, *notes = get_args(kind)
    return plain, next((each for each in notes if isinstance(each, Range)), None)


def describe(kind: Any) -> str:
    """A type in words: "whole number", "number", "one of tensor, global"."""
    words = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "any value"}
    origin = get_origin(kind)
    if origin is Annotated:
        plain, allowed = ranged(kind)
        return f"{describe(plain)} {allowed}" if allowed else describe(plain)
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin in (tuple, list):
        plain, allowed = ranged(get_args(kind)[0])
        return f"list of {describe(plain)}s" + (f" {allowed}" if allowed else "")
    if origin is dict:
        return f"{describe(get_args(kind)[1])} for each name"
    if origin in (Union, UnionType):
        return " or ".join(describe(each) for each in get_args(kind) if each is not NoneType)
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _with_article(words: str) -> str:
    return words if words in ("text", "true or false") else f"a {words}"


def format_value(value: Any) -> str:
    """A setting's value as text that `parse_arguments` can read back."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not (PLAIN_TEXT.fullmatch(value) and _parse_plain(value) == value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


_TEXT = r'"(?:[^"\\]|\\.)*"'
_VALUE = rf'{_TEXT}|\[(?:{_TEXT}|[^\[\]"])*\]|[^\s,=()\[\]"]+'
_ITEM = re.compile(rf'(?:{_TEXT}|[^,"])+')  # of a list
_ARGUMENT = re.compile(rf"\s*(?P<name>\w+)\s*=\s*(?P<value>{_VALUE})\s*(?:,|$)")


def parse_arguments(text: str) -> dict[str, Any]:
    """`variance=0.001, scope=global` as a dict.

    Raises:
        ValueError: the text is not a list of `setting=value` pairs.
    """
    arguments: dict[str, Any] = {}
    position = 0
    while text[position:].strip():
        match = _ARGUMENT.match(text, position)
        if match is None:
            raise ValueError(f"expected setting=value pairs, got {text[position:].strip()!r}")
        if match["name"] in arguments:
            raise ValueError(f"setting {match['name']!r} is given twice; remove one")
        arguments[match["name"]] = _parse_value(match["value"])
        position = match.end()
    return arguments


def _parse_value(text: str) -> Any:
    if text.startswith("["):
        return [_parse_value(item.strip()) for item in _ITEM.findall(text[1:-1]) if item.strip()]
    if text.startswith('"'):
        return json.loads(text)
    return _parse_plain(text)


def _parse_plain(text: str) -> Any:
    if text in ("true", "false", "null"):
        return {"true": True, "false": False, "null": None}[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text
