"""How much each feature before a network's last layer says of the image: Sun et al. 2021, section 4."""

import torch
from torch import Tensor, nn

from leakbench.defenses.account import ContractError, Gradients

SMALL = 0.1  # added to a feature before it divides, as in the authors' code
SEVERAL = 64  # features differentiated at once


def revealing_features(network: nn.Module, images: Tensor) -> tuple[nn.Linear, Tensor]:
    """The last nn.Linear, and |dr/dX| / (|r| + 0.1) of each of its input features r, summed over images (F,).

    Raises:
        ContractError: there is none, or its input is no (N, F), or the examples are texts.
    """
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not linears or not images.is_floating_point():
        raise ContractError("soteria: expected images, and a model with an nn.Linear")
    seen: list[Tensor] = []
    linears[-1].register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
    pixels = images.clone().requires_grad_()
    network(pixels)
    if len(seen) != 1 or seen[0].ndim != 2:
        raise ContractError("soteria: expected features (N, F) before the last nn.Linear")
    sizes = torch.cat(
        [_slopes(seen[0], pixels, each) for each in torch.arange(seen[0].shape[1]).split(SEVERAL)]
    )
    return linears[-1], (sizes / (seen[0].detach().abs().T + SMALL)).sum(1)


def _slopes(features: Tensor, pixels: Tensor, chosen: Tensor) -> Tensor:
    """The norms (len(chosen), N) of the derivatives of some features (N, F) in each image's own pixels."""
    ways = nn.functional.one_hot(chosen, features.shape[1]).to(features.dtype)  # (chosen, F)
    each = ways[:, None].expand(-1, len(features), -1)
    (slopes,) = torch.autograd.grad(features, pixels, each, retain_graph=True, is_grads_batched=True)
    sizes: Tensor = slopes.flatten(2).norm(dim=2)
    return sizes


def last_matrix(gradients: Gradients) -> str:
    """The name of the last tensor of two dimensions: the weight of the last nn.Linear.

    Raises:
        ContractError: there is none.
    """
    names = [name for name, each in gradients.items() if each.ndim == 2]
    if not names:
        raise ContractError("soteria: expected a model with an nn.Linear, found none")
    return names[-1]
