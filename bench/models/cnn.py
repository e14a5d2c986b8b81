"""A plain convolutional network, to study how width, kernel, stride and depth affect leakage."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from leakbench.bench.models.base import ACTIVATIONS, ActivationName, Model
from leakbench.core.configured import SettingError
from leakbench.core.ranges import Count, CountOrZero


@dataclass(frozen=True)
class CNN(Model):
    """Convolutions, each followed by an activation, and a linear layer; `lenet` is one of these.

    `kernel`, `stride` and `padding` take one number per convolution, or one for all of them.
    """

    name: ClassVar[str] = "cnn"

    channels: tuple[Count, ...] = (12, 12, 12)
    kernel: tuple[Count, ...] = (5,)
    stride: tuple[Count, ...] = (2, 2, 1)
    padding: tuple[CountOrZero, ...] = (2,)
    activation: ActivationName = "sigmoid"

    def problems(self) -> Iterator[tuple[str, str]]:
        """One size per convolution, or one for all."""
        yield from super().problems()
        if not self.channels:
            yield "channels", "expected one number or more, got none"
            return
        for setting in ("kernel", "stride", "padding"):
            count = len(getattr(self, setting))
            if count not in (1, len(self.channels)):
                yield setting, f"expected 1 or {len(self.channels)} numbers, like channels, got {count}"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`.

        Raises:
            SettingError: kernels and strides reduce the image to nothing.
        """
        sizes = (
            each * len(self.channels) if len(each) == 1 else each
            for each in (self.kernel, self.stride, self.padding)
        )
        stages: list[nn.Module] = []
        inputs = shape[0]
        for outputs, kernel, stride, padding in zip(self.channels, *sizes, strict=True):
            stages += [nn.Conv2d(inputs, outputs, kernel, stride, padding), ACTIVATIONS[self.activation]()]
            inputs = outputs
        body = nn.Sequential(*stages, nn.Flatten())
        try:
            features = body(torch.zeros(1, *shape)).shape[1]
        except RuntimeError as error:
            text = f"expected kernels that fit the image of {shape[1]} x {shape[2]}, reduced by the strides"
            raise SettingError([("kernel", f"{text}, got {list(self.kernel)}")]) from error
        return nn.Sequential(*body, nn.Linear(features, classes))
