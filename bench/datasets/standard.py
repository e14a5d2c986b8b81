"""The standard datasets of the literature, read by torchvision from the data root."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import ImageOps
from torch import Tensor

from leakbench.bench.datasets.base import Dataset, Images, to_image
from leakbench.bench.datasets.torchvision_import import torchvision_datasets
from leakbench.core.configured import SettingError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.ranges import Count


@dataclass(frozen=True)
class Standard(Dataset):
    """A dataset that torchvision reads and, with `download: true`, downloads."""

    torchvision_class: ClassVar[str]
    shape: ClassVar[tuple[int, int, int]]
    place: ClassVar[str]  # where torchvision looks, under the data root
    classes: ClassVar[int] = 10

    split: Literal["train", "test"] = "train"
    download: bool = field(default=False, compare=False)  # does not affect the images

    def torchvision_arguments(self, data_root: Path) -> dict[str, Any]:
        """The arguments of torchvision's constructor."""
        return {"root": data_root, "train": self.split == "train", "download": self.download}

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`."""
        try:
            with foreign(SystemExit):  # torchvision may raise anything for files it cannot read
                construct = getattr(torchvision_datasets(), self.torchvision_class)
                pairs = construct(**self.torchvision_arguments(data_root))
        except ForeignError as error:
            raise SettingError([("", self._unavailable(data_root, error))]) from error
        return Images(self.shape, self.classes, len(pairs), reader(pairs))

    def _unavailable(self, data_root: Path, error: ForeignError) -> str:
        what = "could not be downloaded" if self.download else "not found"
        if not str(error.cause).startswith("Dataset not found"):
            what += f" ({str(error)[:200]})"
        hint = "" if self.download else ", or set `download: true`"
        return (
            f"{self.name}: {what}: expected {self.place} under the data root {str(data_root)!r};"
            f" put it there, name another folder with --data-root{hint}"
        )


def reader(pairs: Any, size: int | None = None) -> Callable[[int], tuple[Tensor, int]]:
    """A function that reads pair i of a torchvision dataset as (image, label)."""

    def read(index: int) -> tuple[Tensor, int]:
        picture, label = pairs[index]
        if size is not None:
            picture = ImageOps.fit(picture, (size, size))
        return to_image(np.asarray(picture)), int(label)

    return read


@dataclass(frozen=True)
class Mnist(Standard):
    """MNIST handwritten digits, 1x28x28."""

    name: ClassVar[str] = "mnist"
    torchvision_class: ClassVar[str] = "MNIST"
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    place: ClassVar[str] = "MNIST/raw"


@dataclass(frozen=True)
class FashionMnist(Standard):
    """Fashion-MNIST, 1x28x28."""

    name: ClassVar[str] = "fashion-mnist"
    torchvision_class: ClassVar[str] = "FashionMNIST"
    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    place: ClassVar[str] = "FashionMNIST/raw"


@dataclass(frozen=True)
class Cifar10(Standard):
    """CIFAR-10, 3x32x32."""

    name: ClassVar[str] = "cifar10"
    torchvision_class: ClassVar[str] = "CIFAR10"
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    place: ClassVar[str] = "cifar-10-batches-py"


@dataclass(frozen=True)
class Cifar100(Standard):
    """CIFAR-100, 3x32x32, which the DLG authors attack."""

    name: ClassVar[str] = "cifar100"
    torchvision_class: ClassVar[str] = "CIFAR100"
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    place: ClassVar[str] = "cifar-100-python"
    classes: ClassVar[int] = 100


@dataclass(frozen=True)
class Svhn(Standard):
    """Street View House Numbers, cropped digits, 3x32x32."""

    name: ClassVar[str] = "svhn"
    torchvision_class: ClassVar[str] = "SVHN"
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    place: ClassVar[str] = "train_32x32.mat or test_32x32.mat"

    def torchvision_arguments(self, data_root: Path) -> dict[str, Any]:
        """SVHN takes the name of the split, and is located in the root itself."""
        return {"root": data_root, "split": self.split, "download": self.download}


@dataclass(frozen=True)
class Lfw(Dataset):
    """Labeled Faces in the Wild, from `lfw/PERSON/*.jpg` under the data root, as 3x`size`x`size`.

    It is no longer offered for download. The label is the index of the person among 5,749, sorted by name.
    """

    name: ClassVar[str] = "lfw"

    size: Count = 32

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`."""
        place = data_root / "lfw"
        try:
            pairs = torchvision_datasets().ImageFolder(place)
        except (FileNotFoundError, NotADirectoryError) as error:
            text = (
                f"lfw: not found: expected one folder per person in {str(place)!r};"
                " unpack it there, or name another folder with --data-root"
            )
            raise SettingError([("", text)]) from error
        shape = (3, self.size, self.size)
        return Images(shape, len(pairs.classes), len(pairs), reader(pairs, self.size))
