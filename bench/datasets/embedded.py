"""Real images that are bundled with the project or with one of its dependencies."""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
from skimage import data as skimage_data
from torch import Tensor
from torch.nn.functional import interpolate

from leakbench.bench.datasets.base import Dataset, Images, to_image
from leakbench.core.ranges import Count


@dataclass(frozen=True)
class Embedded(Dataset):
    """Images in a file of `bench/embedded/`, whose LICENSES.md names their sources."""

    file: ClassVar[str]
    classes: ClassVar[int] = 10

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`; `data_root` is not used."""
        pixels, labels = load_arrays(self.file)
        shape = tuple(to_image(pixels[0]).shape)
        assert len(shape) == 3
        return Images(shape, self.classes, len(labels), lambda i: (to_image(pixels[i]), int(labels[i])))


@lru_cache
def load_arrays(file: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes (N, H, W[, C]) and the labels (N,) of one embedded file."""
    with (
        resources.as_file(resources.files("leakbench.bench.embedded") / file) as path,
        np.load(path) as arrays,
    ):
        return arrays["pixels"], arrays["labels"]


@dataclass(frozen=True)
class MnistSample(Embedded):
    """The first 20 test images of MNIST, 1x28x28."""

    name: ClassVar[str] = "mnist-sample"
    file: ClassVar[str] = "mnist_sample.npz"


@dataclass(frozen=True)
class FashionMnistSample(Embedded):
    """The first 20 test images of Fashion-MNIST, 1x28x28."""

    name: ClassVar[str] = "fashion-mnist-sample"
    file: ClassVar[str] = "fashion_mnist_sample.npz"


@dataclass(frozen=True)
class Cifar10Sample(Embedded):
    """The first 20 test images of CIFAR-10, 3x32x32."""

    name: ClassVar[str] = "cifar10-sample"
    file: ClassVar[str] = "cifar10_sample.npz"


@dataclass(frozen=True)
class Cifar100Sample(Embedded):
    """The first 20 test images of CIFAR-100, 3x32x32."""

    name: ClassVar[str] = "cifar100-sample"
    file: ClassVar[str] = "cifar100_sample.npz"
    classes: ClassVar[int] = 100


@dataclass(frozen=True)
class Mnist5k(Embedded):
    """5,000 training images of MNIST, 1x28x28, 500 per digit: image i shows the digit i mod 10.

    In another size, or with three equal channels, they can train a model made for other images.
    """

    name: ClassVar[str] = "mnist-5k"
    file: ClassVar[str] = "mnist_5k.npz"

    size: Count = 28
    grey: bool = True

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`."""
        digits = super().open(data_root)
        if (self.size, self.grey) == (28, True):
            return digits
        channels = 1 if self.grey else 3

        def read(index: int) -> tuple[Tensor, int]:
            image, label = digits[index]
            return resize(image, self.size).expand(channels, -1, -1).clone(), label

        return Images((channels, self.size, self.size), self.classes, len(digits), read)


def resize(image: Tensor, size: int) -> Tensor:
    """An image (C, H, W) resized to `size` x `size` pixels, with bilinear interpolation."""
    return interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


@dataclass(frozen=True)
class LfwSubset(Dataset):
    """100 faces of LFW (label 1) and 100 patches without one (label 0), 1x25x25, from scikit-image."""

    name: ClassVar[str] = "lfw-subset"

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`; the images come from scikit-image, and `data_root` is not used."""
        pixels = skimage_data.lfw_subset()  # (200, 25, 25) float64 in [0, 1], the faces first
        return Images((1, 25, 25), 2, len(pixels), lambda i: (to_image(pixels[i]), int(i < 100)))
