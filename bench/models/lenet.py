"""The LeNet of the DLG authors' code."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from leakbench.bench.models.base import ActivationName, Model
from leakbench.bench.models.cnn import CNN


@dataclass(frozen=True)
class LeNet(Model):
    """Three 5x5 convolutions of 12 channels (strides 2, 2, 1), each with an activation, and a linear layer.

    The linear layer has 768 inputs for 3x32x32 images and 588 for 1x28x28 ones, as in the authors' code.
    """

    name: ClassVar[str] = "lenet"

    activation: ActivationName = "sigmoid"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        return CNN(activation=self.activation).layers(shape, classes)
