"""The step of a client: from the weights that the server sent and its batch to its update."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from leakbench.bench.gradients import trained_parameters
from leakbench.bench.protocols import Protocol
from leakbench.bench.protocols.base import Weights
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
    own = deepcopy(network)  # it may keep what passed through it

    def gradient(weights: Weights, images: Tensor, labels: Tensor) -> Gradients:
        leaves = {name: each.detach().requires_grad_() for name, each in weights.items()}
        loss = functional.cross_entropy(functional_call(own, leaves, (images,)), labels)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    weights = {name: each.detach() for name, each in trained_parameters(own)}
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return protocol.update(gradient, weights, images, labels)
