"""The linear equations that a gradient gives for a block's input: Zhu and Blaschko 2021 (R-GAP), section 3.

Let u be the input of a block S, z its output, and g and D the gradients of the loss with respect to z and
to the block's weights W. There are two kinds of equations: S(u) = z (weight equations, where z is known)
and d<g, S(u)>/dW = D (gradient equations). Both are linear in u. No matrix is built.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lsmr
from torch import Tensor

from leakbench.bench.chain import Block
from leakbench.core.randomness import generator_for

PROBES = 4  # random inputs for estimating the size of the equations
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Output:
    """The known part of a block's output."""

    values: Tensor
    trust: Tensor  # of the same shape, >= 0: the weight of each equation; 0 where the value is not known


@dataclass(frozen=True)
class Solution:
    """A least-squares solution."""

    inputs: Tensor
    steps: int
    settled: bool  # whether it converged before the limit of steps
    residual: float  # relative: the norm of the residual over that of the right-hand sides


class Equations:
    """The equations of one block. All tensors are float64."""

    def __init__(
        self,
        block: Block,
        weights: Mapping[str, Tensor],
        slope: Tensor,
        shared: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        output: Output | None = None,
        at: Tensor | None = None,
    ):
        """Set up the equations, scaling each kind to a mean square of 1 for random inputs of variance 1.

        Args:
            block: the block whose input is unknown.
            weights: {parameter name: tensor} of the network.
            slope: the gradient of the loss with respect to the block's output, of its shape.
            shared: {parameter name: gradient of the loss}.
            kept: {parameter name: 1 for each entry of `shared` that carries information, else 0}.
            output: the known part of the block's output; None: nothing is known.
            at: the input to linearise at; None: zero, which is equivalent for linear blocks.
        """
        self.block, self.slope, self.output = block, slope, output
        self.weights = {name: weights[name].detach().clone().requires_grad_() for name in block.names}
        # recorded once: the adjoints are backward passes through these
        given = torch.zeros(block.shape) if at is None else at.detach().clone()
        self.point = given.double().requires_grad_()
        self.outputs, gradients = self._apply(self.point, create_graph=True)
        self.tied = [name for name in block.names if name not in self._untied()]
        self.gradients = {name: gradients[name] for name in self.tied}
        self.kept = {name: kept[name].double() for name in self.tied}
        self.sizes = [slope.numel() if output else 0, *(self.kept[name].numel() for name in self.tied)]
        self.scales = (1.0, 1.0)
        self.scales = self._mean_sizes()
        told = {name: shared[name].double() for name in self.tied}
        self.right = self._rows(output.values if output else self.outputs, told)

    @property
    def shape(self) -> tuple[int, int]:
        """(equations, unknowns)."""
        return sum(self.sizes), self.point.numel()

    @property
    def rows_left(self) -> tuple[int, int]:
        """The number of weight equations and of gradient equations that carry information."""
        known = int((self.output.trust > 0).sum()) if self.output else 0
        return known, int(sum(each.count_nonzero() for each in self.kept.values()))

    def times(self, inputs: Vector) -> Vector:
        """The left-hand sides (equations,) at inputs (unknowns,)."""
        at = torch.from_numpy(np.array(inputs)).view(self.block.shape).requires_grad_()
        return self._rows(*self._apply(at))

    def transposed_times(self, rows: Vector) -> Vector:
        """The adjoint: maps (equations,) to (unknowns,)."""
        weight_rows, *others = torch.from_numpy(np.array(rows).ravel()).split(self.sizes)
        ends, ways = [], []
        if self.output:
            ends.append(self.outputs)
            ways.append(self.scales[0] * self.output.trust * weight_rows.view(self.outputs.shape))
        for name, each in zip(self.tied, others, strict=True):
            ends.append(self.gradients[name])
            ways.append(self.scales[1] * self.kept[name] * each.view(self.kept[name].shape))
        (back,) = torch.autograd.grad(ends, self.point, ways, retain_graph=True)
        return back.flatten().numpy()

    def solve(self, steps: int, start: float = 0.0, tolerance: float = 1e-12) -> Solution:
        """Solve the equations by least squares with LSMR (Fong and Saunders 2011), from a constant input.

        Args:
            steps: the limit of LSMR steps.
            start: the constant; unknowns that no equation determines keep this value.
            tolerance: the relative error of the equations at which LSMR stops.
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
        """The names of weights whose gradient does not depend on the input, such as a bias."""
        generator = generator_for("is it tied")
        slope, *inputs = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in (self.slope.shape, self.point.shape, self.point.shape)
        )
        outputs = [(slope * self.block(each, self.weights)).sum() for each in inputs]
        here, there = (torch.autograd.grad(each, list(self.weights.values())) for each in outputs)
        return {name for name, a, b in zip(self.weights, here, there, strict=True) if torch.allclose(a, b)}

    def _apply(self, inputs: Tensor, create_graph: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """The block's output, and the gradient of <slope, output> with respect to its weights."""
        outputs = self.block(inputs, self.weights)
        gradients = torch.autograd.grad(
            (self.slope * outputs).sum(), list(self.weights.values()), create_graph=create_graph
        )
        return outputs, dict(zip(self.weights, gradients, strict=True))

    def _rows(self, outputs: Tensor, gradients: Mapping[str, Tensor]) -> Vector:
        """The weighted rows, less their values at the point of linearisation."""
        rows = []
        if self.output:
            rows.append(self.scales[0] * self.output.trust * (outputs - self.outputs))
        rows += [
            self.scales[1] * self.kept[name] * (gradients[name] - self.gradients[name]) for name in self.tied
        ]
        return torch.cat([each.detach().flatten() for each in rows]).numpy()

    def _mean_sizes(self) -> tuple[float, float]:
        """The scales that give each kind of equations a mean square of 1."""
        generator = generator_for("size of equations")
        squares = np.zeros(2)
        for _ in range(PROBES):
            probe = torch.randn(self.block.shape, generator=generator, dtype=torch.float64)
            weight_rows, gradient_rows = np.split(self.times(probe.flatten().numpy()), self.sizes[:1])
            squares += np.square(weight_rows).sum(), np.square(gradient_rows).sum()
        sizes = (squares / PROBES / np.maximum(self.rows_left, 1)) ** 0.5
        weight_scale, gradient_scale = (1 / size if size > 0 else 0.0 for size in sizes.tolist())
        return weight_scale, gradient_scale


class Slopes(Equations):
    """Equations linearised at an input, for blocks that may be nonlinear: changes of the left-hand sides."""

    def __init__(
        self,
        block: Block,
        weights: Mapping[str, Tensor],
        slope: Tensor,
        kept: Mapping[str, Tensor],
        output: Output | None,
        at: Tensor,
    ):
        """As `Equations`, linearised at the input `at`; the right-hand sides do not matter."""
        super().__init__(block, weights, slope, kept, kept, output, at)

    def times(self, inputs: Vector) -> Vector:
        """See `Equations.times`."""
        rows: Vector = self.times_each(torch.from_numpy(np.array(inputs)).view(1, -1))[0].numpy()
        return rows

    def times_each(self, inputs: Tensor) -> Tensor:
        """`times` for k changes of the input: maps (k, unknowns) to (k, equations)."""
        ways, back = self._adjoint
        changes = torch.autograd.grad(
            back, ways, inputs, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        weighed = zip(changes, self._weights(), strict=True)
        return torch.cat([(each * weight).flatten(1) for each, weight in weighed], 1)

    def transposed_times_each(self, rows: Tensor) -> Tensor:
        """`transposed_times` for k rows: maps (k, equations) to (k, unknowns)."""
        parts = zip(rows.split([each.numel() for each in self._ends], 1), self._weights(), strict=True)
        ways = [weight * part.view(-1, *weight.shape) for part, weight in parts]
        (back,) = torch.autograd.grad(self._ends, self.point, ways, retain_graph=True, is_grads_batched=True)
        return back.flatten(1)

    @property
    def _ends(self) -> list[Tensor]:
        return [*([self.outputs] if self.output else []), *self.gradients.values()]

    @cached_property
    def _adjoint(self) -> tuple[list[Tensor], Tensor]:
        """Zero rows, and their adjoint; as the adjoint is linear in the rows, its adjoint is `times`."""
        ways = [torch.zeros_like(each, requires_grad=True) for each in self._ends]
        (back,) = torch.autograd.grad(self._ends, self.point, ways, create_graph=True)
        return ways, back.flatten()

    def _weights(self) -> Iterator[Tensor]:
        """Yield the weights of the equations, one tensor per end."""
        if self.output:
            yield self.scales[0] * self.output.trust
        yield from (self.scales[1] * each for each in self.kept.values())


_OUT_OF_STEPS = 7  # LSMR's code for stopping at the limit of steps
