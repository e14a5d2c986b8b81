"""The residual networks of the DLG paper: sigmoid in place of ReLU, and no strides."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from bench.models.base import ACTIVATIONS, ActivationName, Model

WIDTHS = (16, 32, 64)  # channels of the three stages: He et al. 2016, section 4.2

NormName = Literal["batch", "none"]


@dataclass(frozen=True)
class ResNet(Model):
    """A CIFAR ResNet (He et al. 2016, section 4.2) as DLG attacks it: every stage at full resolution.

    `norm: batch` is batch normalisation in evaluation mode: before any training it normalises
    nothing (mean 0, variance 1), but it has weights of its own, whose gradients are shared, too.
    """

    blocks: ClassVar[int]  # of each stage

    activation: ActivationName = "sigmoid"
    norm: NormName = "batch"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        stem = [
            nn.Conv2d(shape[0], WIDTHS[0], kernel_size=3, padding=1, bias=self.norm == "none"),
            normalisation(self.norm, WIDTHS[0]),
            ACTIVATIONS[self.activation](),
        ]
        stages: list[nn.Module] = []
        inputs = WIDTHS[0]
        for width in WIDTHS:
            for _ in range(self.blocks):
                stages.append(Block(inputs, width, self.activation, self.norm))
                inputs = width
        return nn.Sequential(
            *stem, *stages, nn.AvgPool2d(shape[1:]), nn.Flatten(), nn.Linear(inputs, classes)
        )


class Block(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, activation: ActivationName, norm: NormName):
        super().__init__()
        bias = norm == "none"
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=bias),
            normalisation(norm, outputs),
            ACTIVATIONS[activation](),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=bias),
            normalisation(norm, outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias), normalisation(norm, outputs)
            )
        self.activation = ACTIVATIONS[activation]()

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        out: Tensor = self.activation(self.residual(images) + self.shortcut(images))
        return out


def normalisation(norm: NormName, channels: int) -> nn.Module:
    """A layer that normalises that many channels, or none."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


@dataclass(frozen=True)
class ResNet20(ResNet):
    """A ResNet of 20 layers, 0.27 million weights: sigmoid, no strides, as in the DLG paper."""

    name: ClassVar[str] = "resnet20"
    blocks: ClassVar[int] = 3


@dataclass(frozen=True)
class ResNet56(ResNet):
    """A ResNet of 56 layers, 0.86 million weights: sigmoid, no strides, as in the DLG paper."""

    name: ClassVar[str] = "resnet56"
    blocks: ClassVar[int] = 9
