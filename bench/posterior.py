"""How likely examples are, given the shared gradient: one measure for all attacks, without the true ones."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from leakbench.defenses import Account, Gradients

PRIOR = 0.1  # scale of a Laplacian prior on pixel differences; its negative logarithm is total variation
TRUST = 0.3  # exponent of that prior: with 1 images are too smooth, with 0.1 too rough (docs/LOG.md)
SMOOTHING = 1e-6  # of total variation, so that it is differentiable where pixels are equal


def total_variation(images: Tensor) -> Tensor:
    """The mean length, over images (N, C, H, W), of a pixel's difference from those below and to its right.

    Isotropic, as in Rudin, Osher and Fatemi 1992, and smoothed; a mean, so that its unit is a pixel value.
    """
    here = images[..., :-1, :-1]
    down, right = images[..., 1:, :-1] - here, images[..., :-1, 1:] - here
    return (down.square() + right.square() + SMOOTHING).sqrt().mean()


def kept_of(account: Account | None, shared: Gradients) -> Gradients:
    """{parameter name: 1 for every entry that carries information on the gradient, else 0}."""
    kept = account.kept if account else None
    return {
        name: torch.ones_like(each) if kept is None else kept[name].to(each.dtype)
        for name, each in shared.items()
    }


def variance_of(account: Account | None, kept: Gradients) -> float:
    """The mean variance of noise and rounding errors over the kept entries of these tensors."""
    account = account or Account()
    noise = account.variance
    if isinstance(noise, dict):
        noise = _mean_over(noise, kept)
    if account.rounding is None:
        return noise
    if account.mean_squares is not None:
        return noise + _mean_over(account.mean_squares, kept)
    squares = (float((account.rounding[name].double().square() * each).sum()) for name, each in kept.items())
    return noise + sum(squares) / _entries(kept) / 3  # rounding errors are uniform within their bounds


def weights_of(account: Account | None, shared: Gradients) -> Gradients:
    """{parameter name: the weight of each entry in a distance}; the mean variance holds for weighted entries.

    It is that of `kept_of` where all noise has one variance. Otherwise the likelihood divides each tensor by
    the standard deviation of its noise; one without noise counts like the least noisy.
    """
    kept = kept_of(account, shared)
    if account is None or not (isinstance(account.variance, dict) or account.mean_squares):
        return kept
    squares = account.mean_squares or dict.fromkeys(shared, 0.0)
    noise = {name: account.variance_in(name) + squares[name] for name in shared}
    least = min((each for each in noise.values() if each > 0), default=1.0)
    mean = _mean_over(noise, kept) or least
    return {name: (mean / max(noise[name], least)) ** 0.5 * each for name, each in kept.items()}


def _mean_over(numbers: Mapping[str, float], kept: Gradients) -> float:
    """The mean of a number of each tensor over the kept entries."""
    return sum(float(each.sum()) * numbers[name] for name, each in kept.items()) / _entries(kept)


def _entries(kept: Gradients) -> float:
    """How many entries are kept, but at least 1."""
    return max(sum(float(each.sum()) for each in kept.values()), 1.0)


def square_of(shared: Gradients, kept: Gradients) -> float:
    """The squared norm of the kept entries, but at least the smallest float32."""
    total = sum(float((each.double() * kept[name]).square().sum()) for name, each in shared.items())
    return max(total, torch.finfo(torch.float32).tiny)


def image_prior(images: Tensor) -> float:
    """The negative logarithm of the prior of images (N, C, H, W) in [0, 1]: the weighted total variation."""
    return TRUST * images.numel() * float(total_variation(images)) / PRIOR


def neg_log_posterior(dummy: Gradients, shared: Gradients, account: Account | None, prior: float) -> float:
    """The squared distance of the kept entries over twice their variance, plus the prior's part.

    An attacker with the results of several attacks would trust the one with the lowest value. Without
    noise, the variance is that of floating-point rounding, and the distance dominates. Where a defense hides
    the scale of the gradient, the distance is that at the best scale.

    Args:
        dummy: {parameter name: tensor}, what would have been shared of the images.
        shared: what the attacker received.
        account: the defense's account; None if it gives none.
        prior: the negative logarithm of that of the examples, see `Modality.prior`.

    Returns:
        A dimensionless number, up to a constant of the case; infinite if it is NaN.
    """
    kept, weights = kept_of(account, shared), weights_of(account, shared)
    if account and account.scaled:
        scale = _best_scale(dummy, shared, weights)
        dummy = {name: scale * each for name, each in dummy.items()}
    apart = sum(float((weights[name] * (dummy[name] - each)).square().sum()) for name, each in shared.items())
    precision = torch.finfo(next(iter(shared.values())).dtype).eps
    rounding = precision**2 * square_of(shared, weights) / _entries(kept)
    value = apart / (2 * max(variance_of(account, kept), rounding)) + prior
    return math.inf if math.isnan(value) else value


def _best_scale(dummy: Gradients, shared: Gradients, weights: Gradients) -> float:
    """The factor >= 0 by which the dummy is closest to the shared gradient."""
    pairs = [((weights[name] * dummy[name]).double(), weights[name] * each) for name, each in shared.items()]
    inner, square = (
        sum(float(part) for part in parts)
        for parts in zip(*(((own * other).sum(), own.square().sum()) for own, other in pairs), strict=True)
    )
    return max(inner, 0.0) / square if square > 0 else 0.0


def signal_to_noise(gradient: Gradients, account: Account | None) -> float | None:
    """|g|^2 / (entries x mean variance of the noise on each); None if there is no noise, or no account of it.

    Args:
        gradient: before the defense.
        account: the defense's account; None if it gives none.
    """
    if account is None or not account.variance:
        return None
    square = sum(float(each.double().square().sum()) for each in gradient.values())
    if isinstance(account.variance, dict):
        noise = sum(each.numel() * account.variance_in(name) for name, each in gradient.items())
    else:
        noise = sum(each.numel() for each in gradient.values()) * account.variance
    return square / noise if noise else None
