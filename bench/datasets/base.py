"""The base class of datasets: labelled images or texts, accessed by index."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leakbench.bench.modalities import IMAGES, TEXTS, Modality
from leakbench.bench.vocabulary import Vocabulary
from leakbench.core.configured import Configured

if TYPE_CHECKING:
    from leakbench.bench.protocols import Protocol


class Source(ABC):
    """An opened dataset: labelled examples, by index."""

    modality: ClassVar[Modality]

    shape: tuple[int, ...]  # of an example: (C, H, W) of an image
    classes: int
    length: int
    read: Callable[[int], tuple[Tensor, int]]
    known: bool  # whether they can be read: what was recorded may be of images that nobody kept

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The example at `index`, and its label.

        Raises:
            IndexError: the index is outside 0..len-1.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"expected an index in 0..{self.length - 1}, got {index}")
        return self.read(index)

    @property
    @abstractmethod
    def size(self) -> str:
        """How many examples there are, and how large they are, in words."""

    @property
    @abstractmethod
    def stored_bytes(self) -> int:
        """What a run stores of one example, at most."""

    def batch(self, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """The examples at these indices, one after the other, and their labels (N,)."""
        examples, labels = zip(*map(self.__getitem__, indices), strict=True)
        return self.together(examples), torch.tensor(labels)

    @abstractmethod
    def together(self, examples: Sequence[Tensor]) -> Tensor:
        """One tensor of several examples, in its first dimension."""


@dataclass(frozen=True)
class Images(Source):
    """An opened dataset: images (C, H, W), float32 in [0, 1], with their labels."""

    modality: ClassVar[Modality] = IMAGES

    shape: tuple[int, int, int]  # (C, H, W)
    classes: int
    length: int
    read: Callable[[int], tuple[Tensor, int]]
    known: bool = True

    @property
    def size(self) -> str:
        """See `Source.size`: `200 images, 3x32x32`."""
        return f"{len(self)} images, {'x'.join(map(str, self.shape))}"

    @property
    def stored_bytes(self) -> int:
        """See `Source.stored_bytes`: as float16."""
        return 2 * math.prod(self.shape)

    def together(self, examples: Sequence[Tensor]) -> Tensor:
        """See `Source.together`: (N, C, H, W)."""
        return torch.stack(tuple(examples))


@dataclass(frozen=True)
class Texts(Source):
    """An opened dataset: texts as tokens (L,), int64, with their labels."""

    modality: ClassVar[Modality] = TEXTS

    vocabulary: Vocabulary
    longest: int  # tokens of a text, at most
    classes: int
    length: int
    read: Callable[[int], tuple[Tensor, int]]
    known: bool = True

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]  # which follows from other fields here
        """(the most tokens of a text, the size of the vocabulary)."""
        return self.longest, len(self.vocabulary)

    @property
    def size(self) -> str:
        """See `Source.size`: `200 texts of at most 42 tokens`."""
        return f"{len(self)} texts of at most {self.longest} tokens"

    @property
    def stored_bytes(self) -> int:
        """See `Source.stored_bytes`: pieces with spaces between them, all of them as long as the longest."""
        return self.longest * (1 + max(len(piece.encode()) for piece in self.vocabulary.pieces))

    def together(self, examples: Sequence[Tensor]) -> Tensor:
        """See `Source.together`: (N, L), shorter texts padded at their ends."""
        return pad_sequence(list(examples), batch_first=True, padding_value=self.vocabulary.pad)


@dataclass(frozen=True)
class Dataset(Configured, ABC):
    """A source of labelled images or texts."""

    modality: ClassVar[Modality] = IMAGES  # of its examples

    def is_shared_by(self, protocol: "Protocol") -> bool:
        """Whether clients with its images can run that protocol; what was recorded was made by one alone."""
        return True

    def canonical_at(self, index: int) -> dict[str, Any]:
        """See `Configured.canonical`, of what the trials of one index depend on."""
        return self.canonical()

    @abstractmethod
    def open(self, data_root: Path) -> Source:
        """The images or texts, ready to be read.

        Args:
            data_root: the folder of datasets that are not bundled.

        Raises:
            SettingError: the data is missing; the text says what to do.
        """


def to_image(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W) or (H, W, C), bytes or floats in [0, 1], as a float32 image (C, H, W).

    Bytes are divided by 255, as in torchvision's ToTensor; there is no other normalisation.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return image.float() / 255 if pixels.dtype == np.uint8 else image.float()
