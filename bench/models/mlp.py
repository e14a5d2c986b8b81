"""A fully connected network."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch import nn

from leakbench.bench.models.base import ACTIVATIONS, ActivationName, Model


@dataclass(frozen=True)
class MLP(Model):
    """Linear layers with activations between them: 784-500-10 for 1x28x28 images of ten classes."""

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...] = (500,)
    activation: ActivationName = "sigmoid"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Layers have at least one unit."""
        yield from super().problems()
        if any(width < 1 for width in self.hidden):
            yield "hidden", f"expected whole numbers >= 1, got {list(self.hidden)}"

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        stages: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise([prod(shape), *self.hidden]):
            stages += [nn.Linear(inputs, outputs), ACTIVATIONS[self.activation]()]
        last = self.hidden[-1] if self.hidden else prod(shape)
        return nn.Sequential(*stages, nn.Linear(last, classes))
