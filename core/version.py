"""The version of the running program."""

import tomllib
from importlib import metadata
from pathlib import Path


def own_version() -> str:
    """The version of the checkout that contains this file, if any; otherwise of the installed package."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("leakbench")
