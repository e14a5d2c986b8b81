"""Reconstructs the image layer by layer, from the last to the first, without an optimiser.

After R-GAP (Zhu and Blaschko 2021) and Chen and Campbell 2021: the residual p - y and the features are read
off the last layer's gradient. Each layer's input solves linear equations (`bench.equations`), and inverting
the activation before it gives the output of the previous layer.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Attack, Case, Found, Knows, NotApplicableError, Status, Steps
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.chain import Activation, Chain, chain_of
from leakbench.bench.equations import Equations, Output, Solution
from leakbench.bench.posterior import kept_of, square_of, variance_of
from leakbench.bench.rank_one import layer_of_rank_one
from leakbench.core import citations
from leakbench.defenses import Gradients

FLAT = 1e-5  # relative to the largest output: smaller outputs count as 0 if the activation is flat below 0
DOUBT = 10.0  # times the relative residual of the equations: smaller outputs count as 0, too
PRECISION = 1e-8  # of a layer's equations; float32 gradients are only precise to 1e-7
SHARE_OF_ERROR = 0.01  # of the noise in the gradient, or of a later layer's residual (docs/LOG.md)
GREY = 0.5  # pixels that no equation determines
FAR = 1e6  # beyond any pixel value, but its square fits in float32


@dataclass(frozen=True)
class Recursive(Attack):
    """Inverts, layer by layer in float64, networks that are a chain and end in a linear layer with a bias."""

    name: ClassVar[str] = "recursive"
    citation: ClassVar[str] = citations.RECURSIVE
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.DEFENSE})  # which entries were kept

    steps: Steps = 2000  # the most LSMR steps per layer

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        try:
            self._chain(example)
        except NotApplicableError as error:
            return str(error)
        return ""

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`."""
        chain = self._chain(case)
        kept = kept_of(case.account, case.shared)
        slope = residual_of(case, kept)
        label = slope.argmin(1)  # p - y is negative only at the label
        precision, output, unsettled = _precision(case, kept), None, 0
        inputs: dict[str, Tensor] = {}
        for place in reversed(range(len(chain.blocks))):
            block = chain.blocks[place]
            before = chain.blocks[place - 1].activation if place else None
            equations = Equations(block, chain.weights, slope, case.shared, kept, output)
            solution = equations.solve(self.steps, _usual(before) if output else 0.0, precision)
            unsettled += not solution.settled
            inputs[block.name] = solution.inputs
            # no use solving equations more precisely than their right-hand sides are known
            precision = max(precision, SHARE_OF_ERROR * solution.residual)
            if before:
                slope, output = back_through(before, solution, equations)
        dtype = next(iter(case.shared.values())).dtype
        images = solution.inputs.nan_to_num(GREY).clamp(-FAR, FAR).to(dtype)
        if unsettled:
            reason = f"{unsettled} of {len(chain.blocks)} layers stopped at the limit of {self.steps} steps"
            return Found(images, label, status=Status.BUDGET, reason=reason, inputs=inputs)
        return Found(images, label, reason=f"{len(chain.blocks)} layers solved", inputs=inputs)

    @staticmethod
    def _chain(case: Case) -> Chain:
        if case.spec.count > 1:
            raise NotApplicableError(f"expected a gradient of one image, got {case.spec.count}")
        if case.spec.steps > 1 or case.spec.signed:
            raise NotApplicableError("expected a gradient, got how weights moved in several steps or by Adam")
        if not output_layer(case.model, case.spec).bias:
            raise NotApplicableError("expected a last layer with a bias, whose gradient is the residual")
        chain = chain_of(case.model, case.spec.image_shape)
        if chain.problem:
            raise NotApplicableError(f"expected layers one after the other: {chain.problem}")
        return chain


def _precision(case: Case, kept: Gradients) -> float:
    """The relative precision to which equations are solved."""
    entries = sum(float(each.sum()) for each in kept.values())
    square = (
        variance_of(case.account, kept) * entries / square_of(case.shared, kept)
    )  # relative noise, squared
    return max(PRECISION, SHARE_OF_ERROR * math.sqrt(square))


def residual_of(case: Case, kept: Gradients) -> Tensor:
    """The residual p - y (1, K), by a rank-one fit to the gradients of the last layer's weights and bias."""
    layer = output_layer(case.model, case.spec)
    assert layer.bias is not None
    slope, _ = layer_of_rank_one(case.shared, kept, layer.weight, layer.bias)
    return slope[None]


def back_through(activation: Activation, solution: Solution, equations: Equations) -> tuple[Tensor, Output]:
    """From the output of an activation to its input: the loss's gradient there, and the known values.

    Inverting the activation divides an error of the output by the slope, so each equation is weighted by it.
    """
    (slope,) = torch.autograd.grad(
        (equations.outputs * equations.slope).sum(), equations.point, retain_graph=True
    )
    inputs = activation.inverse(solution.inputs)
    if activation.slope(-torch.ones(1)) == 0:
        least = max(FLAT, DOUBT * solution.residual) * inputs.max()
        inputs = torch.where(inputs > least, inputs, 0.0)
    own = activation.slope(inputs)
    return slope * own, Output(inputs, own)


def _usual(activation: Activation | None) -> float:
    """The value of a block's inputs that no equation determines: the activation's output at 0, or grey.

    For the last block 0 is used instead: gradient entries that were dropped were small, like their features.
    """
    return float(activation(torch.zeros(()))) if activation else GREY
