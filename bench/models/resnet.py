"""The residual networks of the DLG paper: sigmoid instead of ReLU, and no strides."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from leakbench.bench.models.base import ACTIVATIONS, ActivationName, Model
from leakbench.core.configured import SettingError
from leakbench.core.ranges import CountOrZero

WIDTHS = (16, 32, 64)  # channels of the three stages: He et al. 2016, section 4.2

NormName = Literal["batch", "none"]


@dataclass(frozen=True)
class ResNet(Model):
    """A CIFAR ResNet (He et al. 2016, section 4.2) as DLG attacks it: every stage at full resolution.

    `norm: batch` is batch normalisation in evaluation mode. In an untrained network it normalises
    nothing (mean 0, variance 1), but it has weights, whose gradients are also shared.

    `pool: 0` averages over the whole image before the linear layer, as in He et al., so that the
    scores do not depend on positions in the image; `pool: N` averages over squares of N x N
    pixels and keeps the positions of the squares; `pool: 1` averages nothing.
    """

    blocks: ClassVar[int]  # per stage

    activation: ActivationName = "sigmoid"
    norm: NormName = "batch"
    pool: CountOrZero = 0

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`.

        Raises:
            SettingError: the squares of `pool` do not tile the image.
        """
        height, width = shape[1:]
        if self.pool and (height % self.pool or width % self.pool):
            text = f"expected a divisor of {height} and {width}, the image's sides, got {self.pool}"
            raise SettingError([("pool", text)])
        stem = [
            nn.Conv2d(shape[0], WIDTHS[0], kernel_size=3, padding=1, bias=self.norm == "none"),
            normalisation(self.norm, WIDTHS[0]),
            ACTIVATIONS[self.activation](),
        ]
        stages: list[nn.Module] = []
        inputs = WIDTHS[0]
        for outputs in WIDTHS:
            for _ in range(self.blocks):
                stages.append(Block(inputs, outputs, self.activation, self.norm))
                inputs = outputs
        square = (self.pool, self.pool) if self.pool else (height, width)
        features = inputs * (height // square[0]) * (width // square[1])
        return nn.Sequential(*stem, *stages, nn.AvgPool2d(square), nn.Flatten(), nn.Linear(features, classes))


class Block(nn.Module):
    """A residual block: two 3x3 convolutions and a shortcut."""

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
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        out: Tensor = self.activation(self.residual(images) + self.shortcut(images))
        return out


def normalisation(norm: NormName, channels: int) -> nn.Module:
    """Batch normalisation of that many channels, or the identity for `none`."""
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
