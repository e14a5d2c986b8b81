"""What defenses of batches have in common."""

import torch
from torch import Tensor
from torch.nn import functional

from leakbench.defenses.account import ContractError
from leakbench.defenses.base import Defense

MOST = 0.65  # the largest coefficient of InstaHide, as in the authors' code


def only_images(defense: Defense, images: Tensor) -> Tensor:
    """The images (N, C, H, W).

    Raises:
        ContractError: they are the tokens of texts.
    """
    if not images.is_floating_point():
        raise ContractError(f"defense {defense}: expected images, got texts")
    return images


def mixed(
    images: Tensor, labels: Tensor, weights: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and labels with those of random permutations of them, by weights (N, k).

    The first weight is an image's own. Labels (N,) or (N, K) become probabilities (N, K).
    """
    answers = labels if labels.is_floating_point() else functional.one_hot(labels).to(images.dtype)
    orders = [torch.arange(len(images))]
    orders += [torch.randperm(len(images), generator=generator) for _ in range(weights.shape[1] - 1)]
    parts = list(zip(weights.T, orders, strict=True))
    pixels = sum(own.view(-1, 1, 1, 1) * images[order] for own, order in parts)
    return torch.as_tensor(pixels), torch.as_tensor(
        sum(own[:, None] * answers[order] for own, order in parts)
    )


def weights_of(k: int, generator: torch.Generator) -> Tensor:
    """The coefficients (k,) of an image and of those that InstaHide mixes with it."""
    while True:
        sizes = torch.randn(k, generator=generator, dtype=torch.float64).abs()
        weights = sizes / sizes.sum()
        if k == 1 or float(weights.max()) <= MOST:
            return weights
