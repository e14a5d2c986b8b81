"""What a server knows of the examples behind an update without seeing them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.modalities.base import Modality
from leakbench.bench.modalities.images import IMAGES
from leakbench.bench.vocabulary import Vocabulary


@dataclass(frozen=True)
class Spec:
    """What a server knows about the examples behind an update without seeing them."""

    shape: tuple[int, ...]  # of an image (C, H, W); of texts (most tokens of one, pieces in the vocabulary)
    classes: int
    count: int = 1  # examples behind what was shared
    steps: int = 1  # gradients that it is the mean of, each at other weights: see `Protocol.steps`
    signed: bool = False  # whether only the signs of gradients, or a mean of signs, were shared
    modality: Modality = IMAGES
    vocabulary: Vocabulary | None = None  # of texts
    masked: bool = False  # whether the network is to guess hidden words, rather than to classify

    @property
    def single(self) -> bool:
        """Whether the gradient of one example was shared, as it is."""
        return self.count == 1 and self.steps == 1 and not self.signed

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of a reconstruction: (N, C, H, W) of images, (N, L) of texts."""
        return self.modality.batch_shape(self)

    def blank(self, dtype: torch.dtype) -> Tensor:
        """Examples of zeros: black images, or texts of nothing but the first piece of the vocabulary."""
        return torch.zeros(self.batch_shape, dtype=dtype if self.vocabulary is None else torch.int64)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        channels, height, width = self.shape
        return channels, height, width

    @property
    def pixels(self) -> int:
        """The number of pixels of all images together, counting each channel."""
        return math.prod(self.batch_shape)

    @property
    def logit_shape(self) -> tuple[int, int]:
        """The shape (N, K) of label logits."""
        return self.count, self.classes
