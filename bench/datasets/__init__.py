"""The datasets of labelled images and texts, and their registry."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from leakbench.bench.datasets.base import Dataset, Images, Source, Texts
from leakbench.bench.datasets.embedded import (
    Cifar10Sample,
    Cifar100Sample,
    FashionMnistSample,
    LfwSubset,
    Mnist5k,
    MnistSample,
)
from leakbench.bench.datasets.folder import Folder
from leakbench.bench.datasets.recorded import Recorded
from leakbench.bench.datasets.standard import Cifar10, Cifar100, FashionMnist, Lfw, Mnist, Svhn
from leakbench.bench.datasets.texts import Sotu2k, SotuSample, TextFile
from leakbench.core.configured import SettingError
from leakbench.core.registry import Registry

__all__ = ["DATASETS", "Dataset", "Images", "Recorded", "Source", "Texts", "open_dataset", "open_images"]

OF_A_PATH = ("folder:", "text:")  # short for `folder(path=PATH)` and `text(path=PATH)`


class DatasetRegistry(Registry[Dataset]):
    """The registry of datasets, which accepts `folder:PATH` and `text:FILE`."""

    def parse(self, text: str) -> Dataset:
        """See `Registry.parse`; the path of the short form may contain any character."""
        return self.build(text, {}) if text.startswith(OF_A_PATH) else super().parse(text)

    def build(self, name: str, settings: dict[str, Any]) -> Dataset:
        """See `Registry.build`."""
        if name.startswith(OF_A_PATH):
            kind, _, path = name.partition(":")
            return super().build(kind, {"path": path, **settings})
        return super().build(name, settings)


DATASETS = DatasetRegistry(
    "dataset",
    Dataset,  # type: ignore[type-abstract]
    [
        Cifar10Sample,
        Cifar100Sample,
        MnistSample,
        FashionMnistSample,
        Mnist5k,
        LfwSubset,
        Mnist,
        FashionMnist,
        Cifar10,
        Cifar100,
        Svhn,
        Lfw,
        Folder,
        SotuSample,
        Sotu2k,
        TextFile,
        Recorded,
    ],
)


@lru_cache
def open_dataset(dataset: Dataset, data_root: Path) -> Source:
    """`dataset.open(data_root)`, cached, so that each process opens a dataset once."""
    return dataset.open(data_root)


def open_images(dataset: Dataset, data_root: Path) -> Images:
    """The same of a dataset of images.

    Raises:
        SettingError: it is one of another kind; or as `Dataset.open`.
    """
    source = open_dataset(dataset, data_root)
    if not isinstance(source, Images):
        raise SettingError([("", f"{dataset}: expected images, got {source.modality.name}")])
    return source
