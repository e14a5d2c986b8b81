"""The LeNet of the DLG authors' code."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from bench.models.base import ACTIVATIONS, ActivationName, Model


@dataclass(frozen=True)
class LeNet(Model):
    """Three 5x5 convolutions of 12 channels (strides 2, 2, 1), each activated, and a linear layer.

    For 3x32x32 images that layer reads 768 numbers, for 1x28x28 ones 588, as in the authors' code.
    """

    name: ClassVar[str] = "lenet"

    activation: ActivationName = "sigmoid"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        activation = ACTIVATIONS[self.activation]
        body = nn.Sequential(
            nn.Conv2d(shape[0], 12, kernel_size=5, padding=2, stride=2),
            activation(),
            nn.Conv2d(12, 12, kernel_size=5, padding=2, stride=2),
            activation(),
            nn.Conv2d(12, 12, kernel_size=5, padding=2, stride=1),
            activation(),
            nn.Flatten(),
        )
        features = body(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(*body, nn.Linear(features, classes))
