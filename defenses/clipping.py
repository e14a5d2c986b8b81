"""Clipped gradients: a client's whole update, or each example's with Gaussian noise on their sum (DP-SGD)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import DP_FEDAVG, DP_SGD
from leakbench.core.ranges import NonNegative, Positive
from leakbench.defenses.account import SINGLE, Account, Gradients, Mean
from leakbench.defenses.base import Defense

ROUNDING = 1e-5  # relative: a float32 norm this close to the clipping norm may have been clipped


@dataclass(frozen=True)
class Clip(Defense):
    """The whole update scaled to the L2 norm `norm` if it is longer: McMahan et al. 2018, algorithm 1."""

    citation: ClassVar[str] = DP_FEDAVG
    name: ClassVar[str] = "clip"
    grid: ClassVar[dict[str, list[Any]]] = {"norm": [0.1, 1.0, 10.0]}

    norm: Positive

    @property
    def strength(self) -> float:
        """1 / norm."""
        return 1 / self.norm

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients times min(1, norm / their own norm)."""
        examples = {name: gradient[None] for name, gradient in gradients.items()}
        return {name: gradient[0].clone() for name, gradient in clipped(examples, self.norm).items()}

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: everything is kept; at the clipping norm, the scale is unknown."""
        return Account(scaled=_norm(shared) >= self.norm * (1 - ROUNDING))

    def checked_account(self, shared: Gradients, mean: Mean = SINGLE) -> Account | None:
        """See `Defense.checked_account`; a mean over clients does not show whether theirs were clipped."""
        account = super().checked_account(shared, mean)
        entries = sum(each.numel() for each in shared.values())
        least = self.norm - mean.rounding * entries**0.5  # a clipped one is at least so long after rounding
        may_be = mean.clients > 1 or (mean.rounding > 0 and _norm(shared) >= least)
        return account and replace(account, scaled=account.scaled or may_be)


@dataclass(frozen=True)
class DPGaussian(Defense):
    """DP-SGD: Abadi et al. 2016, algorithm 1; noise_multiplier and clip as in Opacus and TensorFlow Privacy.

    Each example's gradient is clipped, N(0, (noise_multiplier * clip)^2) is added to their sum, and the
    result is divided by the number of examples.
    """

    citation: ClassVar[str] = DP_SGD
    name: ClassVar[str] = "dp_gaussian"
    grid: ClassVar[dict[str, list[Any]]] = {"noise_multiplier": [0.01, 0.1, 1.0]}

    noise_multiplier: NonNegative
    clip: Positive = 1.0

    @property
    def strength(self) -> float:
        """The noise multiplier."""
        return self.noise_multiplier

    @property
    def multiplier(self) -> float:
        """See `Defense.multiplier`."""
        return self.noise_multiplier

    def apply_each(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """See `Defense.apply_each`."""
        deviation = self.noise_multiplier * self.clip
        return {
            name: (each.sum(0) + deviation * _normal(each[0], generator)) / len(each)
            for name, each in clipped(gradients, self.clip).items()
        }

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: with noise, whether an example was clipped cannot be seen."""
        return Account(variance=(self.noise_multiplier * self.clip) ** 2, scaled=True)


def norms_of(gradients: Gradients) -> Tensor:
    """The L2 norm (N,) of each example's gradients {name: (N, *shape)}, in float64."""
    squares = [each.double().reshape(len(each), -1).square().sum(1) for each in gradients.values()]
    return torch.stack(squares).sum(0).sqrt()


def _norm(shared: Gradients) -> float:
    return float(norms_of({name: each[None] for name, each in shared.items()}))


def clipped(gradients: Gradients, norm: float) -> Gradients:
    """Each example's gradients {name: (N, *shape)} scaled to that L2 norm if they are longer."""
    factors = norm / norms_of(gradients).clamp(min=norm)  # (N,)
    return {
        name: each * factors.to(each.dtype).view(-1, *[1] * (each.ndim - 1))
        for name, each in gradients.items()
    }


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)
