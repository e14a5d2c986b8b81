"""How similar a reconstruction is to the image: computed per image, never over a batch."""

import math
from dataclasses import dataclass
from statistics import fmean as mean

import numpy as np
import torch
from torch import Tensor

SSIM_WINDOW = 11  # pixels: a Gaussian of sigma 1.5, truncated at 3.5 sigma


@dataclass(frozen=True)
class Scores:
    """How similar reconstructions are to the true images: means over the images."""

    mse: float  # on pixels clipped to [0, 1]
    mse_raw: float  # on unclipped pixels
    psnr: float  # dB, peak 1.0, of each image's mse; inf for identical images
    ssim: float  # on clipped pixels
    ssim_least: float  # the minimum over the images
    score: float  # how much leaked, in [0, 1]: the SSIM, or 0 if it is negative


def mse(image: Tensor, other: Tensor) -> float:
    """Mean squared difference of two (C, H, W) images, summed in float64."""
    return float((image.double() - other.double()).square().mean())


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB, for a peak of 1.0: 10 log10(1 / MSE)."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


def ssim(image: Tensor, other: Tensor) -> float:
    """Structural similarity of two (C, H, W) images in [0, 1], averaged over the channels.

    As in Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, population covariances, peak 1.0.

    Raises:
        ValueError: the image is smaller than the window.
    """
    if min(image.shape[1:]) < SSIM_WINDOW:
        size = "x".join(map(str, image.shape[1:]))
        raise ValueError(f"SSIM needs an image of {SSIM_WINDOW}x{SSIM_WINDOW} pixels or more, got {size}")
    from skimage.metrics import structural_similarity  # takes half a second, so only when something is scored

    _, similarity = structural_similarity(
        _side_by_side(image),
        _side_by_side(other),
        full=True,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    edge = SSIM_WINDOW // 2  # where the window would reach beyond the image, or into the next channel
    channels = similarity.reshape(image.shape[1], image.shape[0], image.shape[2])
    return float(channels[edge:-edge, :, edge:-edge].mean())


def score(images: Tensor, reconstructions: Tensor) -> Scores:
    """All scores of reconstructions (N, C, H, W) compared with the true images in [0, 1], in the same order.

    Each image is scored separately, then the mean is taken. Reconstructions are clipped to [0, 1], as an
    attacker would view them, for all scores except `mse_raw`, which is what the DLG authors' code prints.

    Raises:
        ValueError: a score is NaN, which could be mistaken for an image that did not leak.
    """
    seen = reconstructions.clamp(0, 1)
    clipped = list(map(mse, images, seen))
    similar = list(map(ssim, images, seen))
    if any(map(math.isnan, (*clipped, *similar))):
        raise ValueError(
            "expected scores that are numbers, got NaN: the image or the reconstruction contains NaN"
        )
    return Scores(
        mean(clipped),
        mean(map(mse, images, reconstructions)),
        mean(map(psnr, clipped)),
        mean(similar),
        min(similar),
        min(max(mean(similar), 0.0), 1.0),
    )


def match(reconstructions: Tensor, images: Tensor) -> list[int]:
    """The index of the reconstruction (N, C, H, W) for each image, with the least sum of clipped MSE.

    A mean of gradients contains no order of the images. Solved by scipy's linear_sum_assignment.
    """
    if len(images) == 1:
        return [0]
    from scipy.optimize import linear_sum_assignment

    differences = reconstructions.clamp(0, 1)[None] - images[:, None]  # (images, reconstructions, C, H, W)
    errors = differences.double().square().flatten(2).mean(2).nan_to_num(1.0)
    order: list[int] = linear_sum_assignment(errors.numpy())[1].tolist()
    return order


def matched_mse(reconstructions: Tensor, images: Tensor) -> list[float]:
    """The MSE of raw pixels for each of k sets of reconstructions (k, N, C, H, W) and their images."""
    if images.shape[1] > 1:
        pairs = zip(reconstructions, images, strict=True)
        reconstructions = torch.stack([found[match(found, truth)] for found, truth in pairs])
    errors: list[float] = (reconstructions.double() - images.double()).square().flatten(1).mean(1).tolist()
    return errors


def _side_by_side(image: Tensor) -> np.ndarray:
    """(C, H, W) as (H, C * W), so that scikit-image processes all channels in the time of one."""
    return image.detach().cpu().double().permute(1, 0, 2).flatten(1).numpy()
