"""The gradient that a client shares, and the distance of a dummy's gradient from it."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from leakbench.defenses import Gradients


def shared_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Gradients:
    """The gradient of the mean cross entropy of labelled images, which a client would share.

    Args:
        model: maps (N, C, H, W) to class scores (N, K).
        images: (N, C, H, W), in [0, 1].
        labels: the classes (N,), in 0..K-1.
    """
    loss = functional.cross_entropy(model(images), labels)  # scores (N, K)
    names, parameters = zip(*trained_parameters(model), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def match_loss(
    model: nn.Module, shared: Gradients, images: Tensor, label_logits: Tensor, create_graph: bool
) -> Tensor:
    """The squared distance of the dummy's gradient from the shared one: Zhu et al. 2019, eq. 4.

    It is a plain sum over all entries of all parameters, neither averaged nor normalised.

    Args:
        model: the victim's model.
        shared: {parameter name: tensor} as the victim shared it.
        images: the dummy images, (N, C, H, W).
        label_logits: the dummy labels before their softmax, (N, K).
        create_graph: whether the result is to be differentiated.
    """
    loss = soft_cross_entropy(model(images), label_logits)
    names, parameters = zip(*trained_parameters(model), strict=True)
    dummy = torch.autograd.grad(loss, parameters, create_graph=create_graph)
    squared = [(gradient - shared[name]).square().sum() for name, gradient in zip(names, dummy, strict=True)]
    return torch.stack(squared).sum()


def squared_distance(dummy: Gradients, shared: Gradients) -> float:
    """The match loss as a number, of what any attack may have made: infinite where it is NaN."""
    loss = float(torch.stack([(each - shared[name]).square().sum() for name, each in dummy.items()]).sum())
    return math.inf if math.isnan(loss) else loss


def distance_by_layer(
    model: nn.Module, shared: Gradients, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """The squared distance of a dummy's gradient from the shared one, for each parameter.

    Zhu et al. 2019 plot it layer by layer. The sum is the match loss.

    Args:
        model: the victim's model.
        shared: as the victim shared it.
        images: the dummy images (N, C, H, W).
        labels: the logits of the dummy labels (N, K), or classes (N,).
    """
    dummy = gradient_at(model, images, labels)
    return {name: float((each - shared[name]).square().sum()) for name, each in dummy.items()}


def gradient_at(model: nn.Module, images: Tensor, labels: Tensor) -> Gradients:
    """The gradient of images (N, C, H, W) whose labels are logits (N, K) or classes (N,)."""
    own = deepcopy(model)  # a model may store its inputs
    if not labels.is_floating_point():
        return shared_gradient(own, images, labels)
    names, parameters = zip(*trained_parameters(own), strict=True)
    loss = soft_cross_entropy(own(images), labels)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def soft_cross_entropy(scores: Tensor, label_logits: Tensor) -> Tensor:
    """The mean cross entropy of class scores (N, K) against labels that are softmax(label_logits)."""
    return -(label_logits.softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()


def match_loss_slope(
    model: nn.Module, shared: Gradients, images: Tensor, label_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """The match loss, and its gradient (N*C*H*W + N*K,) with respect to the dummy images and labels."""
    pixels, labels = (each.clone().requires_grad_() for each in (images, label_logits))
    loss = match_loss(model, shared, pixels, labels, create_graph=True)
    slopes = torch.autograd.grad(loss, [pixels, labels])
    return loss.detach(), torch.cat([slope.flatten() for slope in slopes])


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The (name, parameter) pairs whose gradients are shared."""
    return [pair for pair in model.named_parameters() if pair[1].requires_grad]


def norm_of(gradients: Gradients) -> float:
    """The L2 norm of all gradients together."""
    return math.sqrt(sum(float(each.double().square().sum()) for each in gradients.values()))
