"""What a gradient says of a block's input: linear equations, by Zhu and Blaschko 2021 (R-GAP), section 3.

With u the input of a block S, z its output, g the gradient of the loss in z, and D the gradient of
the loss in its weights W, there are two kinds: S(u) = z (weight equations, where z is known) and
d<g, S(u)>/dW = D (gradient equations). Both are linear in u. No matrix is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lsmr
from torch import Tensor

from bench.chain import Block
from bench.randomness import generator_for

PROBES = 4  # random inputs by which the size of equations is estimated
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Output:
    """What is known of a block's output."""

    values: Tensor
    trust: Tensor  # of the same shape, >= 0: what each equation is multiplied with; 0 where it is not known


@dataclass(frozen=True)
class Solution:
    """What solves equations best."""

    inputs: Tensor
    steps: int
    settled: bool  # whether further steps would change it
    residual: float  # the norm of what is left of the right-hand sides, over theirs


class Equations:
    """Those of one block. All tensors are float64."""

    def __init__(
        self,
        block: Block,
        weights: Mapping[str, Tensor],
        slope: Tensor,
        shared: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        output: Output | None = None,
    ):
        """Set them up, each kind with a mean square of 1, as they are for random inputs of variance 1.

        Args:
            block: whose input is unknown.
            weights: of the network.
            slope: the gradient of the loss in the block's output, of its shape.
            shared: {parameter name: gradient of the loss}.
            kept: 1 for each entry of it that tells something, else 0.
            output: what is known of the block's output; None: nothing.
        """
        self.block, self.slope, self.output = block, slope, output
        self.weights = {name: weights[name].detach().clone().requires_grad_() for name in block.names}
        # recorded once: the adjoints are backward passes through these
        self.zero = torch.zeros(block.shape, dtype=torch.float64, requires_grad=True)
        self.at_zero, at_zero = self._apply(self.zero, create_graph=True)
        self.tied = [name for name in block.names if name not in self._untied()]
        self.gradients_at_zero = {name: at_zero[name] for name in self.tied}
        self.kept = {name: kept[name].double() for name in self.tied}
        self.sizes = [slope.numel() if output else 0, *(self.kept[name].numel() for name in self.tied)]
        self.scales = (1.0, 1.0)
        self.scales = self._mean_sizes()
        given = {name: shared[name].double() for name in self.tied}
        self.right = self._rows(output.values if output else self.at_zero, given)

    @property
    def shape(self) -> tuple[int, int]:
        """(equations, unknowns)."""
        return sum(self.sizes), self.zero.numel()

    @property
    def rows_left(self) -> tuple[int, int]:
        """How many weight and gradient equations say something."""
        known = int((self.output.trust > 0).sum()) if self.output else 0
        return known, int(sum(each.count_nonzero() for each in self.kept.values()))

    def times(self, inputs: Vector) -> Vector:
        """The left-hand sides (equations,) for inputs (unknowns,)."""
        at = torch.from_numpy(np.array(inputs)).view(self.block.shape).requires_grad_()
        return self._rows(*self._apply(at))

    def transposed_times(self, rows: Vector) -> Vector:
        """The adjoint: (unknowns,) of (equations,)."""
        weight_rows, *others = torch.from_numpy(np.array(rows).ravel()).split(self.sizes)
        ends, ways = [], []
        if self.output:
            ends.append(self.at_zero)
            ways.append(self.scales[0] * self.output.trust * weight_rows.view(self.at_zero.shape))
        for name, each in zip(self.tied, others, strict=True):
            ends.append(self.gradients_at_zero[name])
            ways.append(self.scales[1] * self.kept[name] * each.view(self.kept[name].shape))
        (back,) = torch.autograd.grad(ends, self.zero, ways, retain_graph=True)
        return back.flatten().numpy()

    def solve(self, steps: int, start: float = 0.0, tolerance: float = 1e-12) -> Solution:
        """Their least squares by LSMR (Fong and Saunders 2011), from a constant input.

        Args:
            steps: at most.
            start: every number of the input there; what no equation tells of stays at it.
            tolerance: relative error of the equations at which it stops.
        """
        operator = LinearOperator(
            self.shape, matvec=self.times, rmatvec=self.transposed_times, dtype=np.float64
        )
        first = np.full(self.shape[1], start)
        found, why, taken, *_ = lsmr(
            operator, self.right, atol=tolerance, btol=tolerance, conlim=0, maxiter=steps, x0=first
        )
        left, whole = (float(np.linalg.norm(each)) for each in (self.right - self.times(found), self.right))
        inputs = torch.from_numpy(found).view(self.block.shape)
        return Solution(inputs, int(taken), why != _OUT_OF_STEPS, left / whole if whole else 0.0)

    def _untied(self) -> set[str]:
        """The weights whose gradient does not depend on the input: what is added, such as a bias."""
        generator = generator_for("is it tied")
        slope, *inputs = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in (self.slope.shape, self.zero.shape, self.zero.shape)
        )
        outputs = [(slope * self.block(each, self.weights)).sum() for each in inputs]
        here, there = (torch.autograd.grad(each, list(self.weights.values())) for each in outputs)
        return {name for name, a, b in zip(self.weights, here, there, strict=True) if torch.allclose(a, b)}

    def _apply(self, inputs: Tensor, create_graph: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The block's output, and the gradient of <slope, output> in its weights."""
        outputs = self.block(inputs, self.weights)
        gradients = torch.autograd.grad(
            (self.slope * outputs).sum(), list(self.weights.values()), create_graph=create_graph
        )
        return outputs, dict(zip(self.weights, gradients, strict=True))

    def _rows(self, outputs: Tensor, gradients: Mapping[str, Tensor]) -> Vector:
        """Less what they are at an input of zero, weighted."""
        rows = []
        if self.output:
            rows.append(self.scales[0] * self.output.trust * (outputs - self.at_zero))
        rows += [
            self.scales[1] * self.kept[name] * (gradients[name] - self.gradients_at_zero[name])
            for name in self.tied
        ]
        return torch.cat([each.detach().flatten() for each in rows]).numpy()

    def _mean_sizes(self) -> tuple[float, float]:
        """What gives each kind of equations a mean square of 1."""
        generator = generator_for("size of equations")
        squares = np.zeros(2)
        for _ in range(PROBES):
            probe = torch.randn(self.block.shape, generator=generator, dtype=torch.float64)
            weight_rows, gradient_rows = np.split(self.times(probe.flatten().numpy()), self.sizes[:1])
            squares += np.square(weight_rows).sum(), np.square(gradient_rows).sum()
        sizes = (squares / PROBES / np.maximum(self.rows_left, 1)) ** 0.5
        weight_scale, gradient_scale = (1 / size if size > 0 else 0.0 for size in sizes.tolist())
        return weight_scale, gradient_scale


_OUT_OF_STEPS = 7  # of LSMR's reasons to stop
