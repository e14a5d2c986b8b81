"""A sweep given by typed options, in place of a sweep file or of some of its keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from leakbench.core.errors import UserError
from leakbench.sweeps.ranges import shown
from leakbench.sweeps.sweep_file import LISTS, named, read_content, without_attacks
from leakbench.sweeps.yaml_file import UnreadableFileError, parse_yaml

SUITE = "standard"  # if no attacks are named


@dataclass(frozen=True)
class Typed:
    """What was typed, by the keys of a sweep file."""

    lists: Mapping[str, tuple[str, ...]]  # {key: names, or patterns of the file's names such as `prune*`}
    indices: str = ""  # of the images, in every dataset
    settings: tuple[str, ...] = ()  # KEY=VALUE, in the order in which they were typed
    suite: str = ""
    quick: bool = False  # use the values that the file has under `quick`

    def __bool__(self) -> bool:
        """Whether any of it changes the keys of a file."""
        return bool(any(self.lists.values()) or self.indices or self.settings)


def merge(file: Path | None, typed: Typed) -> dict[str, Any]:
    """The content of a sweep file with the typed options; without a file, of the typed options alone.

    Raises:
        UserError: with a line for everything that has to be changed.
    """
    content: dict[str, Any] = (
        {"defenses": ["none"], "suite": SUITE} if file is None else read_content(file, typed.quick)
    )
    content.pop("quick", None)
    problems: list[str] = []
    for key, names in typed.lists.items():
        if names and key == "attacks":
            content = without_attacks(content) | {"attacks": content.get("attacks", [])}
        if names:
            content[key] = [entry for name in names for entry in _entries(content, key, name, problems)]
    if typed.suite:
        content = without_attacks(content) | {"suite": typed.suite}
    if typed.indices:
        datasets = _datasets(content, "--indices", problems)
        content["datasets"] = [_with_indices(entry, typed.indices) for entry in datasets]
    for setting in typed.settings:
        _set(content, setting, problems)
    if problems:
        raise UserError(*problems)
    return content


def _entries(content: dict[str, Any], key: str, name: str, problems: list[str]) -> list[Any]:
    """The entries that a name stands for: itself or, if it is a pattern, what matches it in the file."""
    if not any(sign in name for sign in "*?"):
        return [name]
    if key == "datasets":  # whose entries have indices, too
        known: dict[str, Any] = {_name(entry): entry for entry in _datasets(content, "--dataset", problems)}
    else:
        known = {each: each for each in named(content, key)}
    found = [entry for text, entry in known.items() if fnmatchcase(text, name)]
    if not found and (known or key != "datasets"):
        expected = f"expected a pattern that matches some of {', '.join(known) or 'none'}"
        problems.append(f"--{LISTS[key].kind}: {expected}, got {name!r}, which matches none")
    return found


def _datasets(content: Mapping[str, Any], option: str, problems: list[str]) -> list[Any]:
    """The file's list of datasets; a problem and none where there is no such list."""
    found = content.get("datasets")
    if isinstance(found, list) and found:
        return found
    got = "none" if found is None else shown(found)
    problems.append(f"{option}: expected a file with a list of one dataset or more, got {got}")
    return []


def _name(entry: Any) -> str:
    return str(entry.get("name", "") if isinstance(entry, Mapping) else entry)


def _with_indices(entry: Any, indices: str) -> dict[str, Any]:
    own = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    return {**own, "indices": indices}


def _set(content: dict[str, Any], setting: str, problems: list[str]) -> None:
    """Put `KEY=VALUE` into the content; a dot leads into a key's own keys."""
    place, separator, text = setting.partition("=")
    if not separator or not place:
        problems.append(f"--set: expected KEY=VALUE, such as restarts=3, got {setting!r}")
        return
    *outer, last = place.split(".")
    for key in outer:
        inner = content.get(key)
        content[key] = dict(inner) if isinstance(inner, Mapping) else {}
        content = content[key]
    try:
        content[last] = parse_yaml(text)
    except UnreadableFileError as error:
        problems.append(f"--set: {place}: {error}")
