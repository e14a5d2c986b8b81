"""What a fully connected first layer gives away, of one image and of several."""

import numpy as np
import pytest
import torch
from torch import nn

from leakbench.bench.attacks import Case, Resources, Spec, Status
from leakbench.bench.attacks.linear import Linear
from leakbench.bench.attacks.null_vectors import separate
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.rank_one import rank_one
from leakbench.defenses import Account

RELU = "mlp(activation=relu, weights=default)"


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def row_of(trial):
    (result,) = run_trials([trial], Conditions(Resources(slots=2)))
    return result.row


def test_a_whole_matrix_is_fitted_by_its_singular_vectors():
    matrix = drawn(7, 5)
    a, b = rank_one(matrix, torch.ones_like(matrix))
    left, sizes, right = np.linalg.svd(matrix.numpy())
    assert np.allclose(torch.outer(a, b), sizes[0] * np.outer(left[:, 0], right[0]))


def test_an_outer_product_is_found_from_a_third_of_its_entries():
    product = torch.outer(drawn(40), drawn(30, seed=1))
    kept = (torch.rand(40, 30, generator=torch.Generator().manual_seed(2)) < 0.33).double()
    a, b = rank_one(product * kept, kept)
    assert torch.allclose(torch.outer(a, b), product, atol=1e-6)


def test_a_row_and_a_column_without_entries_are_zero():
    product, kept = torch.outer(drawn(6), drawn(5, seed=1)), torch.ones(6, 5).double()
    kept[2], kept[:, 3] = 0, 0
    a, b = rank_one(product * kept, kept)
    assert (a[2], b[3]) == (0, 0)
    assert torch.allclose(kept * torch.outer(a, b), kept * product)


@pytest.mark.parametrize(
    ("defense", "least"),
    [
        ("none", 0.9999),
        ("bfloat16", 0.999),
        ("int8", 0.999),
        ("prune(ratio=0.7)", 0.999),
        ("prune(ratio=0.9)", 0.97),
        ("gaussian(std=0.001)", 0.9),
    ],
)
@pytest.mark.parametrize("model", ["mlp", "mlp(hidden=[300,40], activation=tanh)"])
def test_one_image_is_read_off(make_trial, model, defense, least):
    row = row_of(make_trial(attack="linear", model=model, defense=defense, index=1))
    assert row.ssim > least
    assert row.label_correct
    assert row.reason == "solved in closed form"


def test_noise_in_the_account_is_smoothed_away():
    """Under a prior of pictures that are flat in parts, as this one is."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 50), nn.Sigmoid(), nn.Linear(50, 4))
    image = torch.full((1, 1, 16, 16), 0.2)
    image[..., 8:] = 0.8
    noisy = {
        name: each + 1e-2 * torch.randn(each.shape)
        for name, each in shared_gradient(model, image, torch.tensor([1])).items()
    }
    told, not_told = (
        (Linear().invert(Case(0, model, noisy, Spec((1, 16, 16), 4), (), account)).x - image).norm()
        for account in (Account(variance=1e-4), Account())
    )
    assert told < 0.75 * not_told


@pytest.mark.parametrize("count", [2, 4, 8])
def test_several_images_are_separated_exactly(make_trial, count):
    protocol = f"fedsgd(batch_size={count})"
    row = row_of(make_trial(attack="linear", model=RELU, protocol=protocol, dataset="mnist-sample"))
    assert row.ssim_least > 0.999
    assert row.label_correct


def test_two_images_stand_rounding(make_trial):
    trial = make_trial(attack="linear", model=RELU, protocol="fedsgd(batch_size=2)", defense="int8")
    assert row_of(trial).ssim_least > 0.95


def test_a_sum_of_outer_products_with_zeros_is_taken_apart():
    generator = torch.Generator().manual_seed(0)
    slopes = drawn(60, 3) * (torch.rand(60, 3, generator=generator) < 0.5)
    images = torch.rand(3, 20, generator=generator).double()
    found = separate(slopes @ images, slopes.sum(1), 3, generator)
    order = torch.cdist(images, found.images).argmin(1)
    assert torch.allclose(found.images[order], images, atol=1e-6)
    assert torch.allclose(found.slopes[:, order], slopes, atol=1e-6)


def test_images_without_zeros_cannot_be_separated_and_are_grey():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.ReLU(), nn.Linear(30, 4))
    with torch.no_grad():
        model[1].bias.fill_(100)  # no ReLU is ever closed
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    shared = shared_gradient(model, images, torch.tensor([0, 1, 2]))
    found = Linear().invert(Case(0, model, shared, Spec((1, 4, 4), 4, 3), (), Account()))
    assert found.status is Status.BUDGET
    grey = (found.x == 0.5).flatten(1).all(1)  # how many depends on rounding
    assert 1 <= int(grey.sum()) <= 3
    assert found.reason == f"{int(grey.sum())} of 3 images could not be told apart, and are grey"


@pytest.mark.parametrize(
    ("model", "count", "text"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4)),
            1,
            "whose first layer is an nn.L",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False)),
            1,
            "nn.Linear with a bias, on all pixels",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 4)),
            2,
            "expected a ReLU after",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 4)), 1, ""),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 4)), 2, ""),
    ],
)
def test_what_it_cannot_take_is_said_before_the_start(model, count, text):
    shared = {name: torch.zeros_like(each) for name, each in model.named_parameters()}
    refusal = Linear().refusal(Case(0, model, shared, Spec((1, 8, 8), 4, count)))
    assert text in refusal
    assert bool(refusal) == bool(text)
