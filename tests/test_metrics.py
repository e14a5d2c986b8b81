"""Scores against known answers and against scikit-image."""

import math
from itertools import permutations

import numpy as np
import pytest
import skimage.metrics
import torch

from leakbench.bench.datasets import DATASETS
from leakbench.bench.metrics import match, matched_mse, mse, psnr, score, ssim

pytestmark = pytest.mark.numeric


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
    perfect = score(image[None], image[None])
    assert (perfect.mse, perfect.psnr, perfect.mse_raw) == (0, math.inf, 0)
    assert perfect.ssim == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 11, 11)])
def test_scores_equal_scikit_image(shape):
    image, other = noisy(shape=shape)
    a, b = image.double().numpy(), other.double().numpy()
    found = score(image[None], other[None])
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
    image = torch.ones(1, 1, 16, 16)
    found = score(image, torch.full((1, 1, 16, 16), 3.0))
    assert (found.mse, found.psnr, found.mse_raw) == (0, math.inf, 4)
    assert found.ssim == pytest.approx(1)


def test_scores_are_per_image():
    """Of two images the mean PSNR is not the PSNR of the mean MSE: a batch must not be pooled."""
    images, _ = DATASETS.parse("cifar10-sample").open(None).batch([0, 1])
    shifted = images + torch.tensor([0.01, 0.3])[:, None, None, None]
    near, far = (score(images[i : i + 1], shifted[i : i + 1]) for i in (0, 1))
    both = score(images, shifted)
    assert both.psnr == pytest.approx((near.psnr + far.psnr) / 2)
    assert both.psnr != pytest.approx(psnr(both.mse), rel=0.05)
    assert both.ssim == pytest.approx((near.ssim + far.ssim) / 2)
    assert both.ssim_least == far.ssim < near.ssim


def test_reconstructions_are_matched_to_images_by_the_least_error():
    images, _ = DATASETS.parse("cifar10-sample").open(None).batch(range(8))
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    found = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))[order]
    assert [order[place] for place in match(found, images)] == list(range(8))
    every = permutations(range(4))  # the assignment is the best of all orders, also where none is good
    blurred = images[:4].mean(0, keepdim=True) + 0.3 * torch.rand(4, 3, 32, 32)
    costs = {way: float((blurred[list(way)].clamp(0, 1) - images[:4]).square().sum()) for way in every}
    assert tuple(match(blurred, images[:4])) == min(costs, key=costs.get)


def test_a_reconstruction_that_is_no_number_is_matched_all_the_same():
    images, _ = DATASETS.parse("cifar10-sample").open(None).batch(range(2))
    found = torch.stack([torch.full_like(images[0], math.nan), images[0]])
    assert match(found, images) == [1, 0]


def test_the_error_of_a_set_is_that_of_its_best_order():
    images, _ = DATASETS.parse("cifar10-sample").open(None).batch(range(3))
    assert matched_mse((images[[2, 0, 1]] + 0.1)[None], images[None]) == pytest.approx([0.01])
    assert matched_mse((images[[0]] + 2)[None], images[None, [0]]) == pytest.approx([4])


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="SSIM needs an image of 11x11 pixels or more, got 8x32"):
        ssim(torch.zeros(1, 8, 32), torch.zeros(1, 8, 32))
