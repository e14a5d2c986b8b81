"""A fully connected network."""

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch import nn

from leakbench.bench.models.base import ACTIVATIONS, ActivationName, Model
from leakbench.core.ranges import Count


@dataclass(frozen=True)
class MLP(Model):
    """Linear layers with activations between them: 784-500-10 for 1x28x28 images of ten classes."""

    name: ClassVar[str] = "mlp"

    hidden: tuple[Count, ...] = (500,)
    activation: ActivationName = "sigmoid"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        stages: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise([prod(shape), *self.hidden]):
            stages += [nn.Linear(inputs, outputs), ACTIVATIONS[self.activation]()]
        last = self.hidden[-1] if self.hidden else prod(shape)
        return nn.Sequential(*stages, nn.Linear(last, classes))
