"""Users' files: `file.py:ClassName` names a class in one."""

import ast
import hashlib
import importlib.util
import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from leakbench.core.configured import SettingError
from leakbench.core.foreign import ForeignError, foreign

USER_CLASS = re.compile(r"(?P<file>.+\.py):(?P<cls>[A-Za-z_]\w*)")
PARTS = ("bench", "commands", "defenses", "reports", "sweeps")  # sub-packages that were once top-level


def load_user_class(name: str) -> type:
    """The class that `file.py:ClassName` names; importing the file runs it.

    Raises:
        SettingError: there is no such file or class, or the file cannot be imported.
    """
    match = USER_CLASS.fullmatch(name)
    assert match is not None
    path = Path(match["file"])
    module = load_user_file(path)
    found = getattr(module, match["cls"], None)
    if not isinstance(found, type) or found.__module__ != module.__name__:
        raise SettingError([("", f"{name}: expected a class {match['cls']!r} defined in {path}, found none")])
    return found


def load_user_file(path: Path) -> Any:
    """A user's file as a module; importing it runs it.

    Raises:
        SettingError: there is no such file, or it cannot be imported.
    """
    if not os.path.isfile(path):  # pathlib would raise if the name is too long
        raise SettingError([("", f"no file {str(path)!r} (looked in {Path.cwd()})")])
    return _import_file(path.resolve(), file_digest(path))


@lru_cache
def _import_file(path: Path, digest: str) -> Any:
    module_name = f"leakbench_user_{path.stem}_{digest[:8]}"
    _refuse_old_imports(path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with foreign():
            spec.loader.exec_module(module)
    except ForeignError as error:
        del sys.modules[module_name]
        text = f"{path.name}: could not be imported: {error}"
        raise SettingError([("", text)]) from error
    return module


def _refuse_old_imports(path: Path) -> None:
    """Refuse imports of a sub-package of leakbench as a top-level package, unless there is such a package.

    Raises:
        SettingError: with the import that works.
    """
    try:
        nodes = ast.walk(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):
        return  # the import will report it in more detail
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level and _is_part(node.module or ""):
            names = [alias.name for alias in node.names]
            public = set(names) <= set(sys.modules["leakbench"].__all__)
            place, what = "leakbench" if public else f"leakbench.{node.module}", ", ".join(names)
            expected = f"expected `from {place} import {what}` in line {node.lineno}"
            found = f"found `from {node.module} import {what}`"
            raise SettingError([("", f"{path.name}: {expected}, {found}")])


def _is_part(module: str) -> bool:
    """Whether this is a sub-package of leakbench without the prefix, and not a module of somebody else."""
    name = module.partition(".")[0]
    if name not in PARTS:
        return False
    found = importlib.util.find_spec(name)
    return found is None or str(Path(__file__).parent.parent / name) in (
        found.submodule_search_locations or []
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, so that a changed file gives another trial."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size)


@lru_cache  # computed for every trial
def _digest(path: Path, _modified: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
