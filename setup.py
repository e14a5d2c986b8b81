"""What is installed: one package, leakbench, with the folders beside this file in it."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = ["bench", "board", "commands", "core", "defenses", "federation", "reports", "sweeps"]

packages = find_namespace_packages(
    include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)], exclude=["*.__pycache__", "board.entries*"]
)


def readme() -> str:
    """README.md outside the repository: without pictures and their captions, and without links to files."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[.*\n\n\*.*\*\n\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^]]+)\]\((?!http)[^)]+\)", r"\1", text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    packages=["leakbench", *(f"leakbench.{package}" for package in packages)],
    package_dir={f"leakbench.{folder}": folder for folder in FOLDERS},
    package_data={
        "": [
            "*.css",
            "*.gz",
            "*.html",
            "*.js",
            "*.json",
            "*.md",
            "*.npz",
            "*.pt",
            "*.yaml",
            "*.pyi",
            "py.typed",
        ]
    },
)
