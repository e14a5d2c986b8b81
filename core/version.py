"""Which version of the program runs."""

import tomllib
from importlib import metadata
from pathlib import Path


def own_version() -> str:
    """In a checkout what its pyproject.toml says, whatever else is installed; else the installed package's."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("leakbench")
