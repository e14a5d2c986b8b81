"""What is installed: one package, leakbench, with the folders beside this file in it."""

from setuptools import find_namespace_packages, setup

FOLDERS = ["bench", "board", "commands", "core", "defenses", "federation", "reports", "sweeps"]

packages = find_namespace_packages(
    include=[*FOLDERS, *(f"{folder}.*" for folder in FOLDERS)], exclude=["*.__pycache__"]
)
setup(
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
