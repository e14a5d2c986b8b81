"""Additive noise: Zhu et al. 2019, section 5.1, "Noisy Gradients".

The paper specifies its noise by a "variance range from 10^-1 to 10^-4"; others read 10^-k as the
standard deviation. Either can be given here. Nothing is clipped, so this noise gives no privacy
budget (epsilon).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import DLG
from leakbench.defenses.base import Account, Defense, Gradients


@dataclass(frozen=True)
class Noise(Defense, ABC):
    """Independent, zero-mean noise on every entry, given by its variance or its standard deviation."""

    citation: ClassVar[str] = DLG

    variance: float | None = None
    std: float | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Exactly one of the two must be given, and not negative."""
        if (self.variance is None) == (self.std is None):
            given = "neither" if self.variance is None else "both"
            yield "", f"expected one of variance and std, got {given}"
        for setting, value in self.settings().items():
            if value is not None and value < 0:
                yield setting, f"expected a number >= 0, got {value:g}"

    @property
    def strength(self) -> float:
        """The variance of the noise, also if the standard deviation was given."""
        return self.variance if self.variance is not None else self.deviation**2

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise."""
        if self.std is not None:
            return self.std
        assert self.variance is not None
        return math.sqrt(self.variance)

    @abstractmethod
    def standard_draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of variance 1, with the shape and dtype of `like`."""

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradient plus `deviation` times standard noise, entry by entry."""
        return {
            name: gradient + self.deviation * self.standard_draw(gradient, generator)
            for name, gradient in gradients.items()
        }

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: every entry is kept, with noise of known variance."""
        return Account(variance=self.strength)


@dataclass(frozen=True)
class Gaussian(Noise):
    """Gaussian noise, N(0, variance), on every gradient entry."""

    name: ClassVar[str] = "gaussian"
    grid: ClassVar[dict[str, list[Any]]] = {"std": [1e-3, 1e-2, 1e-1]}

    def standard_draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """N(0, 1)."""
        return torch.randn(like.shape, dtype=like.dtype, generator=generator)


@dataclass(frozen=True)
class Laplacian(Noise):
    """Laplacian noise on every gradient entry, with scale b = sqrt(variance / 2)."""

    name: ClassVar[str] = "laplacian"
    grid: ClassVar[dict[str, list[Any]]] = {"std": [1e-3, 1e-2, 1e-1]}

    def standard_draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Laplace(0, b) with b = sqrt(1/2): the difference of two exponentials of mean b."""
        scale = math.sqrt(0.5)
        first, second = (
            torch.empty(like.shape, dtype=like.dtype).exponential_(1 / scale, generator=generator)
            for _ in range(2)
        )
        return first - second
