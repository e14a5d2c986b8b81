"""What leaked: how near a reconstruction is to the image. Per image, never over a batch."""

import math
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor

SSIM_WINDOW = 11  # pixels: a Gaussian of sigma 1.5, cut at 3.5 sigma


@dataclass(frozen=True)
class Scores:
    """How near a reconstruction is to the image that it was made from."""

    mse: float  # on pixels clipped to [0, 1]
    mse_raw: float  # on the pixels as they came
    psnr: float  # dB, peak 1.0, of mse; inf for identical images
    ssim: float  # of the clipped pixels


def mse(image: Tensor, other: Tensor) -> float:
    """Mean squared difference of two (C, H, W) images, summed in float64."""
    return float((image.double() - other.double()).square().mean())


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB, for a peak of 1.0: 10 log10(1 / MSE)."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)


def ssim(image: Tensor, other: Tensor) -> float:
    """Structural similarity of two (C, H, W) images in [0, 1], mean over the channels.

    As Wang et al. 2004: an 11x11 Gaussian window of sigma 1.5, population covariances, peak 1.0.

    Raises:
        ValueError: an image smaller than the window.
    """
    if min(image.shape[1:]) < SSIM_WINDOW:
        size = "x".join(map(str, image.shape[1:]))
        raise ValueError(f"SSIM needs an image of {SSIM_WINDOW}x{SSIM_WINDOW} pixels or more, got {size}")
    _, similarity = structural_similarity(
        _side_by_side(image),
        _side_by_side(other),
        full=True,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    edge = SSIM_WINDOW // 2  # there the window would reach beyond the image, or into the next channel
    channels = similarity.reshape(image.shape[1], image.shape[0], image.shape[2])
    return float(channels[edge:-edge, :, edge:-edge].mean())


def score(image: Tensor, reconstruction: Tensor) -> Scores:
    """All scores of a reconstruction (C, H, W) against the image, in [0, 1], that it should show.

    An attacker would look at the reconstruction clipped to [0, 1], and so do all scores but
    `mse_raw`, which is what the DLG authors' code prints.
    """
    seen = reconstruction.clamp(0, 1)
    clipped = mse(image, seen)
    return Scores(clipped, mse(image, reconstruction), psnr(clipped), ssim(image, seen))


def _side_by_side(image: Tensor) -> np.ndarray:
    """(C, H, W) as (H, C * W): scikit-image takes all channels for the time of one."""
    return image.detach().cpu().double().permute(1, 0, 2).flatten(1).numpy()
