"""`leakbench doctor`: what is installed, what is missing, and how to get it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from leakbench.bench.datasets import DATASETS, Recorded
from leakbench.bench.datasets.folder import Folder
from leakbench.bench.datasets.texts import TextFile
from leakbench.bench.datasets.torchvision_import import torchvision_datasets
from leakbench.core.configured import SettingError
from leakbench.sweeps.executors.devices import usable_cores
from leakbench.sweeps.manifest import package_versions


def diagnosis(data_root: Path) -> Iterator[str]:
    """One line per fact."""
    yield f"python       {sys.version.split()[0]}"
    for package, version in package_versions().items():
        yield f"{package:<12} {version}"
    yield f"cores        {usable_cores()}"
    yield from _gpus()
    yield from _torchvision()
    for dataset in DATASETS:
        if dataset not in (Folder, TextFile, Recorded):  # files of the user's
            yield _data_line(dataset.name, data_root)


def _gpus() -> Iterator[str]:
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}       {card.name}, {card.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        build = "this build of torch has no CUDA" if torch.version.cuda is None else "no driver or no card"
        yield f"GPU          none ({build}); attacks run on the CPU"


def _torchvision() -> Iterator[str]:
    try:
        torchvision_datasets()
    except (ImportError, RuntimeError) as error:
        yield f"torchvision  cannot be imported: {error}; only embedded datasets and folders work"


def _data_line(name: str, data_root: Path) -> str:
    try:
        source = DATASETS.build(name, {}).open(data_root)
    except (SettingError, ImportError) as error:
        return f"data         missing {error}"
    return f"data         found   {name}: {source.size}, {source.classes} classes"
