"""The layer of PRECODE: a variational bottleneck, and the term that it adds to a client's loss."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Divergence(torch.autograd.Function):
    """Leaves the means and deviations (N, size) of codes as they are, and adds a term to the client's loss.

    The term is `weight` times the mean over N of the divergence KL(N(mean, deviation^2) || N(0, 1)), in bits
    as in the authors' code. Only its gradient is added, so this is right for first derivatives alone.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(means: Tensor, deviations: Tensor, _weight: float) -> tuple[Tensor, Tensor]:
        """See the class."""
        return means.clone(), deviations.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], _output: Any) -> None:
        """See `torch.autograd.Function`."""
        ctx.save_for_backward(*inputs[:2])
        ctx.weight = inputs[2]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        """The slopes plus those of the term."""
        means, deviations = ctx.saved_tensors
        share = ctx.weight / math.log(2) / len(means)
        return slopes[0] + share * means, slopes[1] + share * (deviations - 1 / deviations), None


def with_divergence(means: Tensor, deviations: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """See `Divergence`."""
    given: tuple[Tensor, Tensor] = Divergence.apply(means, deviations, weight)  # type: ignore[no-untyped-call]
    return given


class Bottleneck(nn.Module):
    """Encodes features as codes drawn from N(mean, deviation^2), in evaluation as the mean, and decodes."""

    def __init__(self, features: int, size: int, beta: float):
        super().__init__()
        self.encode, self.decode = nn.Linear(features, 2 * size), nn.Linear(size, features)
        self.beta = beta

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, F) for features (N, F)."""
        means, rest = self.encode(features).chunk(2, dim=-1)
        if self.training:
            means, deviations = with_divergence(means, functional.softplus(rest), self.beta)
            means = means + deviations * torch.randn_like(means)
        decoded: Tensor = self.decode(means)
        return decoded
