"""What a gradient says about a layer's input, compared with matrices and calculations by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from leakbench.bench.chain import chain_of
from leakbench.bench.equations import Equations, Output


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def first_block(*layers, shape=(2, 6, 6)):
    torch.manual_seed(0)
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))
    model(torch.zeros(1, *shape))
    chain = chain_of(model.eval(), shape)
    return chain.blocks[0], chain.weights


BLOCKS = {
    "strided": (nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.Sigmoid()),
    "pooled": (nn.AvgPool2d(2), nn.Conv2d(2, 4, 3, padding=1), nn.Sigmoid()),
    "normalised": (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Sigmoid()),
    "two layers in one": (nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3), nn.Sigmoid()),
    "connected": (nn.Flatten(), nn.Linear(72, 9), nn.Sigmoid()),
}


def made(name, trust=None, kept=1.0):
    """Equations of a block, its true input, and the plain functions that they are of."""
    block, weights = first_block(*BLOCKS[name])
    truth = drawn(*block.shape, seed=1)
    slope = drawn(*block(truth, weights).shape, seed=2)

    def gradients(inputs):
        own = {name: weights[name].clone().requires_grad_() for name in block.names}
        loss = (slope * block(inputs, own)).sum()
        return torch.autograd.grad(loss, list(own.values()), create_graph=True)

    shared = dict(zip(block.names, [each.detach() for each in gradients(truth)], strict=True))
    mask = {
        name: (torch.rand(each.shape, generator=torch.Generator().manual_seed(3)) < kept).double()
        for name, each in shared.items()
    }
    output = None if trust is None else Output(block(truth, weights).detach(), trust * torch.ones_like(slope))
    equations = Equations(block, weights, slope, shared, mask, output)
    return equations, truth, lambda u: block(u, weights), gradients


@pytest.mark.parametrize("trust", [None, 1.0])
@pytest.mark.parametrize("name", BLOCKS)
def test_they_are_the_derivatives_of_outputs_and_gradients(name, trust):
    equations, truth, outputs, gradients = made(name, trust)
    found = np.stack([equations.times(unit) for unit in np.eye(equations.shape[1])], 1)
    tied = equations.tied
    rows = jacobian(outputs, truth).reshape(-1, truth.numel())
    expected = [] if trust is None else [equations.scales[0] * rows]
    for place, own in enumerate(equations.block.names):
        if own in tied:
            rows = jacobian(lambda u, place=place: gradients(u)[place], truth)
            expected.append(equations.scales[1] * rows.reshape(-1, truth.numel()))
    assert np.allclose(found, torch.cat(expected).numpy(), atol=1e-9)
    assert np.allclose(equations.right, found @ truth.flatten().numpy())


@pytest.mark.parametrize("name", BLOCKS)
def test_the_adjoint_is_the_transposed(name):
    equations, *_ = made(name, trust=0.7, kept=0.5)
    rows, unknowns = equations.shape
    left, right = drawn(rows).numpy(), drawn(unknowns, seed=5).numpy()
    assert left @ equations.times(right) == pytest.approx(right @ equations.transposed_times(left))


def test_each_kind_has_a_mean_square_of_one():
    equations, *_ = made("strided", trust=0.01, kept=0.5)
    matrix = np.stack([equations.times(unit) for unit in np.eye(equations.shape[1])], 1)
    for rows, left in zip(np.split(matrix, [equations.sizes[0]]), equations.rows_left, strict=True):
        assert np.square(rows).sum() / left == pytest.approx(1, rel=0.5)  # by four probes
    assert equations.rows_left[1] < 144


@pytest.mark.parametrize("name", ["strided", "connected"])
def test_a_layer_of_full_rank_is_inverted_to_eight_digits(name):
    equations, truth, *_ = made(name, trust=1.0)
    matrix = np.stack([equations.times(unit) for unit in np.eye(equations.shape[1])], 1)
    assert np.linalg.matrix_rank(matrix) == truth.numel()
    solution = equations.solve(steps=2000)
    assert solution.settled
    assert (solution.inputs - truth).norm() <= 1e-8 * truth.norm()
    assert solution.residual < 1e-9


def test_what_no_equation_tells_of_stays_where_it_was():
    """Behind an average pool only means are known."""
    equations, truth, *_ = made("pooled", trust=1.0)
    solution = equations.solve(steps=500, start=0.25)
    pool = nn.AvgPool2d(2)
    assert torch.allclose(pool(solution.inputs), pool(truth), atol=1e-7)
    inside = solution.inputs - nn.Upsample(scale_factor=2)(pool(solution.inputs))
    assert inside.abs().max() < 1e-7
    assert not torch.allclose(solution.inputs, truth, atol=0.1)


def test_a_limit_of_steps_is_reported():
    equations, *_ = made("strided", trust=1.0)
    solution = equations.solve(steps=2)
    assert (solution.steps, solution.settled) == (2, False)
    assert solution.residual > 1e-3


def test_a_two_by_two_picture_solved_by_hand():
    """One 2x2 kernel w = (1, 2; 3, 4) with bias 5 on x = (1, 0; 2, 1): z = 1 + 6 + 4 + 5 = 16.

    With the slope g = 0.5 of the loss in z its gradient is dw = g x = (0.5, 0; 1, 0.5) and db = 0.5, so
    that the four gradient equations 0.5 x = dw alone give x; the weight equation is w.x = 16 - 5.
    """
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        model[0].bias.fill_(5)
    chain = chain_of(model, (1, 2, 2))
    shared = {"0.weight": torch.tensor([[[[0.5, 0.0], [1.0, 0.5]]]]), "0.bias": torch.tensor([0.5])}
    kept = {name: torch.ones_like(each) for name, each in shared.items()}
    slope = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    alone = Equations(chain.blocks[0], chain.weights, slope, shared, kept)
    assert alone.rows_left == (0, 4)
    assert np.allclose(alone.right / alone.scales[1], [0.5, 0, 1, 0.5])
    assert np.allclose(alone.solve(50).inputs.flatten(), [1, 0, 2, 1])
    known = Output(torch.full((1, 1, 1, 1), 16.0).double(), torch.ones(1, 1, 1, 1).double())
    both = Equations(chain.blocks[0], chain.weights, slope, shared, kept, known)
    assert both.right[0] / both.scales[0] == pytest.approx(11)
    assert np.allclose(both.solve(50).inputs.flatten(), [1, 0, 2, 1])


def test_a_gradient_of_nothing_says_nothing():
    block, weights = first_block(*BLOCKS["strided"])
    zeros = {name: torch.zeros_like(weights[name]) for name in block.names}
    equations = Equations(block, weights, torch.zeros(1, 8, 3, 3).double(), zeros, zeros)
    assert torch.equal(equations.solve(10, 0.5).inputs, torch.full(block.shape, 0.5).double())
