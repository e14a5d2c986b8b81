"""Additive noise: Zhu et al. 2019, section 5.1, "Noisy Gradients".

The paper specifies its noise by a "variance range from 10^-1 to 10^-4"; others read 10^-k as the
standard deviation. Either can be given here, or the standard deviation relative to the size of each
tensor. Nothing is clipped, so this noise gives no privacy budget (epsilon).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import DLG
from leakbench.core.ranges import NonNegative
from leakbench.defenses.account import SINGLE, Account, Gradients, Mean
from leakbench.defenses.base import Defense


@dataclass(frozen=True)
class Noise(Defense, ABC):
    """Independent, zero-mean noise on every entry, given by its variance or its standard deviation.

    With `relative`, the standard deviation is that multiple of the root mean square of each tensor.
    """

    citation: ClassVar[str] = DLG

    variance: NonNegative | None = None
    std: NonNegative | None = None
    relative: NonNegative | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Exactly one of the three must be given."""
        given = [setting for setting, value in self.settings().items() if value is not None]
        if len(given) != 1:
            yield "", f"expected one of variance, std and relative, got {' and '.join(given) or 'none'}"

    def canonical(self) -> dict[str, Any]:
        """As for all; `relative` counts where it is given."""
        return {
            name: value for name, value in super().canonical().items() if (name, value) != ("relative", None)
        }

    @property
    def strength(self) -> float:
        """The variance of the noise, also if the standard deviation was given; or `relative`."""
        if self.std is not None:
            return self.std**2
        given = self.variance if self.variance is not None else self.relative
        assert given is not None
        return given

    @property
    def own_family(self) -> str:
        """See `Defense.own_family`: relative noise cannot be ordered with the other."""
        return self.name if self.relative is None else f"{self.name} relative"

    def deviation(self, gradient: Tensor) -> float:
        """The standard deviation of the noise on that tensor."""
        if self.relative is not None:
            return self.relative * math.sqrt(_mean_square(gradient))
        return self.std if self.std is not None else math.sqrt(self.strength)

    @abstractmethod
    def standard_draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of variance 1, with the shape and dtype of `like`."""

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradient plus `deviation` times standard noise, entry by entry."""
        return {
            name: gradient + self.deviation(gradient) * self.standard_draw(gradient, generator)
            for name, gradient in gradients.items()
        }

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: every entry is kept, with noise of known variance.

        Relative noise makes the mean square 1 + relative^2 times as large, so that it can be estimated.
        """
        if self.relative is None:
            return Account(variance=self.strength)
        share = self.relative**2 / (1 + self.relative**2)  # of the mean square that is noise
        return Account(variance={name: share * _mean_square(each) for name, each in shared.items()})

    def checked_account(self, shared: Gradients, mean: Mean = SINGLE) -> Account | None:
        """See `Defense.checked_account`; a mean holds less noise.

        Of several clients, this is a lower bound: that gradients cancel cannot be seen in their mean.
        """
        account = super().checked_account(shared, mean)
        if account is None or not isinstance(account.variance, dict) or self.relative is None:
            return account
        less = (1 + self.relative**2) / (1 + self.relative**2 / (mean.rounds * mean.clients))
        return replace(account, variance={name: less * each for name, each in account.variance.items()})


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


def _mean_square(tensor: Tensor) -> float:
    return float(tensor.double().square().mean()) if tensor.numel() else 0.0
