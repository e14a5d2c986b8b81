"""Reading YAML: `safe_load`, but with numbers such as 1e-4 as people write them, and no key twice."""

import re
from pathlib import Path
from typing import Any

import yaml


class UnreadableFileError(ValueError):
    """There is no such file, or it is not YAML. The text is one sentence."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, as YAML 1.2 does, and refuses a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                text = f"key {key!r} given twice"
                raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain Python values.

    Raises:
        UnreadableFileError: with the line where reading failed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableFileError("no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"cannot be read: {error}") from error
    return parse_yaml(text)


def parse_yaml(text: str) -> Any:
    """YAML as plain Python values.

    Raises:
        UnreadableFileError: with the line where reading failed.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" at line {mark.line + 1}" if mark else ""
        raise UnreadableFileError(f"not readable as YAML{line}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableFileError(f"not readable as YAML: {' '.join(str(error).split())}") from error
