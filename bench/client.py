"""The step of a client: from the weights that the server sent and its batch to its update."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from leakbench.bench.gradients import gradient_at, trained_parameters
from leakbench.bench.protocols import Protocol
from leakbench.bench.protocols.base import GradientOf, Weights
from leakbench.defenses import Gradients


def client_update(
    network: nn.Module, protocol: Protocol, images: Tensor, labels: Tensor, seed: int | None = None
) -> Gradients:
    """What a client makes of its batch before `Defense.apply`: see `Protocol.update`.

    Args:
        network: with the weights that the server sent; it is not changed.
        protocol: the client's.
        images: (N, C, H, W), in [0, 1].
        labels: the classes (N,), in 0..K-1, or their probabilities (N, K).
        seed: what layers in training mode draw is decided by it; None where there are none.
    """
    return _updates(network, protocol, [(images, labels)], seed)[0]


def example_updates(
    network: nn.Module, protocol: Protocol, images: Tensor, labels: Tensor, seed: int | None = None
) -> Gradients:
    """What a client gives to `Defense.apply_each`, {name: (N, *shape)}; arguments as of `client_update`.

    One for each example where the protocol is separable (DP-SGD, Abadi et al. 2016); otherwise the whole
    update is the only one (client-level privacy, McMahan et al. 2018).
    """
    size = 1 if protocol.separable else len(images)
    batches = list(zip(images.split(size), labels.split(size), strict=True))
    each = _updates(network, protocol, batches, seed)
    return {name: torch.stack([own[name] for own in each]) for name in each[0]}


def _updates(
    network: nn.Module, protocol: Protocol, batches: Sequence[tuple[Tensor, Tensor]], seed: int | None
) -> list[Gradients]:
    own = deepcopy(network)  # it may keep what passed through it
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return [protocol.update(_gradient_of(own), _weights_of(own), *batch) for batch in batches]


def expected_update(network: nn.Module, protocol: Protocol, images: Tensor, labels: Tensor) -> Gradients:
    """What the server would see of an attacker's images: see `Protocol.expected`.

    Args:
        network: with the weights that the server sent.
        protocol: the clients'.
        images: (N, C, H, W), of all of them.
        labels: the logits of their labels (N, K), or classes (N,).
    """
    if protocol.separable:
        return gradient_at(network, images, labels)
    own = deepcopy(network)
    answers = labels.softmax(-1) if labels.is_floating_point() else labels
    return protocol.expected(_gradient_of(own), _weights_of(own), images, answers)


def _gradient_of(network: nn.Module) -> GradientOf:
    def gradient(weights: Weights, images: Tensor, labels: Tensor) -> Gradients:
        leaves = {name: each.detach().requires_grad_() for name, each in weights.items()}
        loss = functional.cross_entropy(functional_call(network, leaves, (images,)), labels)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    return gradient


def _weights_of(network: nn.Module) -> Weights:
    return {name: each.detach() for name, each in trained_parameters(network)}
