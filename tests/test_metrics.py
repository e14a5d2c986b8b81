"""Scores against known answers and against scikit-image."""

import math

import numpy as np
import pytest
import skimage.metrics
import torch

from bench.datasets import DATASETS
from bench.metrics import mse, psnr, score, ssim


def noisy(seed=0, shape=(3, 32, 32)):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(shape, generator=generator)
    return image, (image + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1)


def test_psnr_of_known_errors():
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(1e-4) == pytest.approx(40)
    assert psnr(1.0) == 0
    assert psnr(0.0) == math.inf


def test_mse_of_known_images():
    assert mse(torch.zeros(1, 12, 12), torch.full((1, 12, 12), 0.1)) == pytest.approx(0.01)
    assert mse(torch.zeros(3, 12, 12), torch.ones(3, 12, 12)) == 1


def test_identical_images_score_perfectly():
    image, _ = noisy()
    perfect = score(image, image)
    assert (perfect.mse, perfect.psnr, perfect.mse_raw) == (0, math.inf, 0)
    assert perfect.ssim == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 11, 11)])
def test_scores_equal_scikit_image(shape):
    image, other = noisy(shape=shape)
    a, b = image.double().numpy(), other.double().numpy()
    found = score(image, other)
    assert found.mse == pytest.approx(skimage.metrics.mean_squared_error(a, b), rel=1e-12)
    assert found.psnr == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0), rel=1e-12
    )
    by_channel = [
        skimage.metrics.structural_similarity(
            x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert found.ssim == pytest.approx(np.mean(by_channel), rel=1e-12)


def test_ssim_by_the_formula_of_wang_et_al():
    """Two constant images have no structure: (2ab + C1) / (a^2 + b^2 + C1), C1 = 0.01^2."""
    a, b, c1 = 0.3, 0.5, 1e-4
    found = ssim(*(torch.full((1, 16, 16), value, dtype=torch.float64) for value in (a, b)))
    assert found == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), rel=1e-9)


def test_scores_look_at_clipped_pixels_and_mse_raw_does_not():
    image = torch.ones(1, 16, 16)
    found = score(image, torch.full((1, 16, 16), 3.0))
    assert (found.mse, found.psnr, found.mse_raw) == (0, math.inf, 4)
    assert found.ssim == pytest.approx(1)


def test_scores_are_per_image():
    """Of two images the mean PSNR is not the PSNR of the mean MSE: a batch must not be pooled."""
    image, _ = DATASETS.parse("cifar10-sample").open(None)[0]
    near, far = (score(image, image + shift) for shift in (0.01, 0.3))
    assert (near.psnr + far.psnr) / 2 != pytest.approx(psnr((near.mse + far.mse) / 2), rel=0.05)


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="SSIM needs an image of 11x11 pixels or more, got 8x32"):
        ssim(torch.zeros(1, 8, 32), torch.zeros(1, 8, 32))
