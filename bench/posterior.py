"""How likely images are, given what was shared: one measure for all attacks, worked out without the truth."""

import math

import torch
from torch import Tensor, nn

from leakbench.bench.gradients import gradient_at
from leakbench.defenses import Account, Gradients

PRIOR = 0.1  # scale of a Laplacian prior of pixel differences, of which total variation is the logarithm
TRUST = 0.3  # in that prior: at 1 pictures are too smooth, at 0.1 too rough (docs/LOG.md)
SMOOTHING = 1e-6  # of total variation, so that it has a slope where pixels are equal


def total_variation(images: Tensor) -> Tensor:
    """Of images (N, C, H, W): the mean length of a pixel's difference from those below and beside it.

    Isotropic, as in Rudin, Osher and Fatemi 1992, and smooth; a mean, so that its unit is a pixel's.
    """
    here = images[..., :-1, :-1]
    down, right = images[..., 1:, :-1] - here, images[..., :-1, 1:] - here
    return (down.square() + right.square() + SMOOTHING).sqrt().mean()


def kept_of(account: Account | None, shared: Gradients) -> Gradients:
    """1 for every entry that tells of the gradient's, else 0."""
    kept = account.kept if account else None
    return {
        name: torch.ones_like(each) if kept is None else kept[name].to(each.dtype)
        for name, each in shared.items()
    }


def variance_of(account: Account | None) -> float:
    """Of what was done to a kept entry, at the mean over all of them: noise, and errors of rounding."""
    account = account or Account()
    if account.rounding is None:
        return account.variance
    square = torch.cat([each.double().flatten() for each in account.rounding.values()]).square().mean()
    return account.variance + float(square) / 3  # uniform within what it was rounded by at most


def square_of(shared: Gradients, kept: Gradients) -> float:
    """The squared norm of what was kept, and never 0."""
    total = sum(float((each.double() * kept[name]).square().sum()) for name, each in shared.items())
    return max(total, torch.finfo(torch.float32).tiny)


def neg_log_posterior(
    model: nn.Module, shared: Gradients, account: Account | None, images: Tensor, labels: Tensor
) -> float:
    """The squared distance of the kept entries over twice their variance, and the prior's total variation.

    An attacker who has the results of several attacks would believe the one of lowest value. Without
    noise the variance is that of the arithmetic's own rounding, and the distance decides.

    Args:
        model: the victim's model.
        shared: {parameter name: tensor}, as the attacker has it.
        account: what the defense says of itself; None: nothing.
        images: (N, C, H, W); they are clipped to [0, 1].
        labels: their logits (N, K), or classes (N,).

    Returns:
        A number without unit, up to a constant of the case; infinite where it is NaN.
    """
    clipped = images.clamp(0, 1)
    dummy, kept = gradient_at(model, clipped, labels), kept_of(account, shared)
    entries = sum(float(each.sum()) for each in kept.values())
    apart = sum(float((kept[name] * (dummy[name] - each)).square().sum()) for name, each in shared.items())
    rounding = torch.finfo(images.dtype).eps ** 2 * square_of(shared, kept) / max(entries, 1.0)
    prior = TRUST * images.numel() * float(total_variation(clipped)) / PRIOR
    value = apart / (2 * max(variance_of(account), rounding)) + prior
    return math.inf if math.isnan(value) else value


def signal_to_noise(gradient: Gradients, account: Account | None) -> float | None:
    """|g|^2 / (entries x variance of the noise on each); None where no noise is known of.

    Args:
        gradient: before the defense.
        account: what the defense says of itself.
    """
    if account is None or not account.variance:
        return None
    entries = sum(each.numel() for each in gradient.values())
    return sum(float(each.double().square().sum()) for each in gradient.values()) / (
        entries * account.variance
    )
