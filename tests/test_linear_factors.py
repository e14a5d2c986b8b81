"""Gradients of linear layers as factors: against the whole gradients, and which layers have none."""

import pytest
import torch
from torch import nn

from leakbench.bench.attacks.linear_factors import inner_product, linear_factors, rows_of, square

WEIGHTS = ("once.weight", "twice.weight", "elsewhere.weight", "unused.weight", "last.weight")


class Several(nn.Module):
    """Linear layers that run once, twice, with a weight that is used elsewhere, and not at all."""

    def __init__(self):
        super().__init__()
        self.once, self.twice, self.elsewhere, self.unused = (nn.Linear(6, 6) for _ in range(4))
        self.last = nn.Linear(6, 2)

    def forward(self, given):
        given = self.twice(self.twice(self.once(given).tanh()).tanh())
        given = self.elsewhere(given).tanh() @ self.elsewhere.weight
        return self.last(given.mean(1))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Several(), torch.randn(1, 4, 6)


def loss_of(network, given):
    return network(given).square().sum()


def test_layers_that_run_once_have_factors(network):
    model, given = network
    factors = linear_factors(model, WEIGHTS, lambda: loss_of(model, given))
    assert list(factors.layers) == ["once.weight", "last.weight"]
    assert {name: tuple(each.shape) for name, each in factors.nothing.items()} == {
        "once.weight": (1, 4, 6),
        "last.weight": (1, 2),
    }
    assert list(linear_factors(model, ["last.weight"], lambda: loss_of(model, given)).layers) == [
        "last.weight"
    ]
    assert not linear_factors(model, ["unused.weight"], lambda: loss_of(model, given)).layers


@pytest.mark.parametrize("name", ["once.weight", "last.weight"])
def test_products_are_those_of_the_whole_gradient(network, name):
    model, given = network
    factors = linear_factors(model, WEIGHTS, lambda: loss_of(model, given))
    added = {name: each.clone().requires_grad_() for name, each in factors.nothing.items()}
    with factors.noted(added) as inputs:
        loss = loss_of(model, given)
    weight = model.get_parameter(name)
    slopes, gradient = torch.autograd.grad(loss, [added[name], weight])
    pair = rows_of(slopes), rows_of(inputs[name].detach())
    other = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    assert float(inner_product(*pair, other)) == pytest.approx(float((gradient * other).sum()), rel=1e-5)
    assert float(square(*pair)) == pytest.approx(float(gradient.square().sum()), rel=1e-5)


def test_what_is_added_is_added(network):
    model, given = network
    factors = linear_factors(model, WEIGHTS, lambda: loss_of(model, given))
    with factors.noted(factors.nothing | {"last.weight": torch.ones(1, 2)}):
        more = model(given)
    assert torch.allclose(more, model(given) + 1)
