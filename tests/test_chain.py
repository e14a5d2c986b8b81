"""Networks as chains of linear blocks and activations."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from leakbench.bench.chain import INVERSES, Activation, chain_of
from leakbench.bench.models import MODELS

SHAPE = (3, 12, 12)
aten = torch.ops.aten


def stack(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.LazyLinear(5))


CHAINS = {
    "pooled": stack(nn.AvgPool2d(2), nn.Sigmoid()),
    "normalised": stack(nn.BatchNorm2d(4), nn.Tanh(), nn.AdaptiveAvgPool2d(2)),
    "in place": stack(nn.LeakyReLU(0.2, inplace=True), nn.Dropout(), nn.ConvTranspose2d(4, 2, 3), nn.ELU()),
    "scaled": stack(nn.SELU(), nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2, dilation=2), nn.ReLU()),
    "no activation": stack(),
}
for network in CHAINS.values():
    network(torch.zeros(1, *SHAPE))
    network.eval()


class Around(nn.Module):
    """A way around an activation."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(432, 5)

    def forward(self, images):
        return self.last((images + self.inner(images).sigmoid()).flatten(1))


class Twice(nn.Module):
    """One layer in two places."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(432, 5)

    def forward(self, images):
        return self.last(self.inner(self.inner(images).tanh()).tanh().flatten(1))


class Undecided(nn.Module):
    """Layers that depend on the image."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(432, 5)

    def forward(self, images):
        return self.last(images.flatten(1)) if images.sum() > 0 else self.last(-images.flatten(1))


@pytest.mark.parametrize("name", [*CHAINS, "lenet", "mlp", "mlp(hidden=[])"])
def test_a_chain_computes_what_the_network_does(name):
    model = CHAINS[name] if name in CHAINS else MODELS.parse(name).build(SHAPE, 5, 0)
    chain = chain_of(model, SHAPE)
    assert not chain.problem
    image = torch.rand(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, features = chain.inputs_of(image)
    scores = chain.blocks[-1](features, chain.weights)
    assert torch.allclose(scores, model.double()(image), rtol=1e-12)
    model.float()
    named = [name for block in chain.blocks for name in block.names]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
    assert [block.activation is None for block in chain.blocks] == [False] * (len(chain.blocks) - 1) + [True]


def test_a_weight_that_is_not_trained_is_a_constant():
    model = stack(nn.Sigmoid())
    model(torch.zeros(1, *SHAPE))
    model[0].weight.requires_grad_(False)
    chain = chain_of(model, SHAPE)
    assert [block.names for block in chain.blocks] == [("0.bias",), ("3.weight", "3.bias")]


@pytest.mark.parametrize(
    ("model", "blocks", "problem"),
    [
        (stack(nn.MaxPool2d(2), nn.Sigmoid()), 0, "max_pool2d is neither linear nor an activation that can"),
        (stack(nn.GELU()), 0, "gelu is neither linear nor an activation that can be inverted .sigmoid, tanh"),
        (stack(nn.Tanh(), nn.GroupNorm(2, 4)), 1, "native_group_norm is neither linear"),
        (Around(), 1, "add also takes a value from before the last activation"),
        (Twice(), 1, "inner.(weight|bias) is used in two layers"),
        (Undecided(), 0, "its operations cannot be recorded: "),
    ],
)
def test_what_is_no_chain_is_said(model, blocks, problem):
    if isinstance(model, nn.Sequential):
        model(torch.zeros(2, *SHAPE))
    chain = chain_of(model.eval(), SHAPE)
    assert len(chain.blocks) == blocks
    assert re.match(problem, chain.problem), chain.problem


ACTIVATIONS = {
    "sigmoid": (aten.sigmoid.default, (), functional.sigmoid),
    "tanh": (aten.tanh.default, (), torch.tanh),
    "relu": (aten.relu.default, (), torch.relu),
    "leaky_relu": (aten.leaky_relu.default, (0.2,), lambda z: functional.leaky_relu(z, 0.2)),
    "elu": (aten.elu.default, (1.5,), lambda z: functional.elu(z, 1.5)),
    "selu": (aten.elu.default, (1.6732632423543772, 1.0507009873554805), functional.selu),
}


def test_every_activation_is_tried():
    assert {operation for operation, *_ in ACTIVATIONS.values()} == set(INVERSES)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_inverted_where_it_is_not_flat(name):
    operation, settings, plain = ACTIVATIONS[name]
    activation = Activation(operation, settings)
    inputs = torch.linspace(0.01 if name == "relu" else -3, 3, 50, dtype=torch.float64)
    assert torch.allclose(activation(inputs), plain(inputs))
    assert torch.allclose(activation.inverse(plain(inputs)), inputs, rtol=1e-9)
    slopes = (plain(inputs + 1e-6) - plain(inputs - 1e-6)) / 2e-6
    assert torch.allclose(activation.slope(inputs), slopes, rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_outputs_that_no_input_gives_are_taken_for_the_nearest(name):
    operation, settings, _ = ACTIVATIONS[name]
    beyond = torch.tensor([-7.0, 0.0, 1.0, 7.0], dtype=torch.float64)
    assert Activation(operation, settings).inverse(beyond).isfinite().all()
