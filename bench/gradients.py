"""The gradient that a client shares, and how far a dummy's gradient is from it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses import Gradients


def shared_gradient(model: nn.Module, image: Tensor, label: int) -> Gradients:
    """The gradient of the cross entropy of one labelled image: what a client would share.

    Args:
        model: maps (1, C, H, W) to class scores (1, K).
        image: (C, H, W), in [0, 1].
        label: the class, in 0..K-1.
    """
    loss = functional.cross_entropy(model(image[None]), torch.tensor([label]))  # scores (1, K)
    names, parameters = zip(*trained_parameters(model), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def match_loss(
    model: nn.Module, shared: Gradients, image: Tensor, label_logits: Tensor, create_graph: bool
) -> Tensor:
    """The squared distance of the dummy's gradient from the shared one: Zhu et al. 2019, eq. 4.

    A plain sum over all entries of all parameters: no mean, no normalisation.

    Args:
        model: the victim's model.
        shared: {parameter name: tensor} as the victim shared it.
        image: the dummy image, (C, H, W).
        label_logits: the dummy label before its softmax, (K,).
        create_graph: whether the result is to be differentiated.
    """
    soft_label = label_logits.softmax(-1)  # (K,)
    log_probabilities = model(image[None]).log_softmax(-1)  # (1, K)
    loss = -(soft_label * log_probabilities).sum()
    names, parameters = zip(*trained_parameters(model), strict=True)
    dummy = torch.autograd.grad(loss, parameters, create_graph=create_graph)
    squared = [(gradient - shared[name]).square().sum() for name, gradient in zip(names, dummy, strict=True)]
    return torch.stack(squared).sum()


def match_loss_slope(
    model: nn.Module, shared: Gradients, image: Tensor, label_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """The match loss and its gradient (C*H*W + K,) in the dummy image and label, in that order."""
    pixels, label = (each.clone().requires_grad_() for each in (image, label_logits))
    loss = match_loss(model, shared, pixels, label, create_graph=True)
    slopes = torch.autograd.grad(loss, [pixels, label])
    return loss.detach(), torch.cat([slope.flatten() for slope in slopes])


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The (name, parameter) pairs that a gradient is shared for."""
    return [pair for pair in model.named_parameters() if pair[1].requires_grad]
