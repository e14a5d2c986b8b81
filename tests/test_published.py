"""Defenses of gradients from the literature, against their papers' equations worked by hand."""

import math

import pytest
import torch

from leakbench.core.configured import SettingError
from leakbench.defenses import DEFENSES, Memory
from leakbench.defenses.account import Mean
from leakbench.defenses.random_sparse import probabilities

pytestmark = pytest.mark.numeric

DRAWS = 4000
SIGNIFICANT = 6.0  # standard deviations of a mean


def share(defense, *values, seed=0):
    """What a defense shares of a gradient with one tensor for each list of numbers."""
    gradient = {str(place): torch.tensor(each) for place, each in enumerate(values)}
    shared = DEFENSES.parse(defense).share(gradient, torch.Generator().manual_seed(seed))
    return [each.tolist() for each in shared.gradients.values()]


def sent(defense, *values, seed=0):
    gradient = {str(place): torch.tensor(each) for place, each in enumerate(values)}
    return DEFENSES.parse(defense).share(gradient, torch.Generator().manual_seed(seed)).sent_bytes


def test_top_k_sends_the_largest_of_the_whole_gradient():
    first, second = [0.5, -3.0, 1.0], [[2.0, 0.1], [-0.2, 0.3]]
    assert share("top_k(ratio=0.3)", first, second) == [[0, -3, 0], [[2, 0], [0, 0]]]  # floor(0.3 x 7) = 2
    assert share("top_k(ratio=0.01)", first, second) == [[0, -3, 0], [[0, 0], [0, 0]]]  # at least one
    assert share("top_k(ratio=0.5)", [1.0, -1.0, 1.0, 1.0]) == [[1, -1, 0, 0]]
    assert share("top_k(ratio=1)", first, second)[:1] == [first]
    assert sent("top_k(ratio=0.001)", [1.0] * 1000) == 4 + 4  # a value and its place


def test_dual_pruning_drops_the_largest_and_the_smallest_of_each_tensor():
    values = [1.0, -2.0, 3.0, -4.0, 5.0, 6.0, -7.0, 8.0, 9.0, -10.0]
    halves = share("dual_prune(largest=0.1, smallest=0.5)", values, [5.0])
    assert halves == [[0, 0, 0, 0, 0, 6, -7, 8, 9, 0], [5]]
    assert (
        share("dual_prune(largest=0.29, smallest=0)", [float(each) for each in range(1, 101)])[0][71:]
        == [0] * 29
    )
    account = DEFENSES.parse("dual_prune").account({"g": torch.tensor([0.0, 2.0])})
    assert account.kept["g"].tolist() == [False, True]


def test_signs_are_scaled_by_the_mean_magnitude_of_their_tensor():
    assert share("sign", [1.0, -2.0, 3.0, 0.0], [-4.0]) == [[1.5, -1.5, 1.5, 0], [-4]]
    assert share("sign(scale=none)", [1.0, -2.0, 3.0, 0.0]) == [[1, -1, 1, 0]]
    assert sent("sign", [1.0] * 9, [2.0]) == (2 + 4) + (1 + 4)
    assert sent("sign(scale=none)", [1.0] * 9, [2.0] * 8) == 2 + 1
    assert sent("sign", [0.0] + [1.0] * 8) == 2 + 2 + 4  # which entries are 0 takes a bit of each


def test_a_scaled_sign_bounds_a_magnitude_by_the_sum_of_all():
    """The worst case is reached: all magnitude in one entry."""
    defense, gradient = DEFENSES.parse("sign"), {"g": torch.tensor([8.0, 0.0, 0.0, 0.0])}
    shared = defense(gradient, torch.Generator())
    assert shared["g"].tolist() == [2, 0, 0, 0]
    assert defense.account(shared).rounding["g"].tolist() == [6] * 4


def mean_and_spread(defense, values):
    """The mean of many draws of what is shared, and the deviation of each entry (n,) over them."""
    generator = torch.Generator().manual_seed(0)
    gradient, parsed = {"g": torch.tensor(values, dtype=torch.float64)}, DEFENSES.parse(defense)
    draws = torch.stack([parsed(gradient, generator)["g"] for _ in range(DRAWS)])
    return draws.mean(0), draws.std(0)


UNBIASED = {
    # variance of each entry: step^2 p (1 - p), step 5 / 2, and |g| / step = 1.2, 1.6, 0
    "qsgd(levels=2)": ([3.0, -4.0, 0.0], [2.5 * 0.4, 2.5 * math.sqrt(0.24), 0.0]),
    # s^2 p (1 - p), s = 4
    "terngrad(clip=0)": ([1.0, -2.0, 4.0, 0.0], [4 * math.sqrt(3 / 16), 2.0, 0.0, 0.0]),
    # budget 2 of 4: p = 1 for the 7, and the other share 1: p = g / 4; g^2 (1 / p - 1) = g (4 - g)
    "random_sparsify(ratio=0.5)": ([7.0, -1.0, 1.0, 2.0], [0.0, math.sqrt(3), math.sqrt(3), 2.0]),
}


@pytest.mark.parametrize("defense", UNBIASED)
def test_random_rounding_has_no_bias_and_the_variance_of_its_paper(defense):
    values, deviations = UNBIASED[defense]
    mean, spread = mean_and_spread(defense, values)
    for own, deviation, found, around in zip(values, deviations, mean, spread, strict=True):
        assert abs(float(found) - own) <= SIGNIFICANT * deviation / math.sqrt(DRAWS)
        assert float(around) == pytest.approx(deviation, rel=0.05)


def test_qsgd_has_levels_of_the_norm_of_each_tensor():
    large = torch.randn(1000, generator=torch.Generator().manual_seed(0)).tolist()
    shared = torch.tensor(share("qsgd(levels=8)", large)[0])
    steps = shared / (torch.tensor(large).norm() / 8)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-5)
    assert share("qsgd(levels=3)", [-6.0]) == [[-6.0]]  # its own norm


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([0.0] * 100, 4),  # the norm alone
        # norm 2: levels 1 1 1 1. By place: omega(1) = 1 bit for gap and level each; all in turn: omega(2) = 3
        ([1.0, -1.0, 1.0, 1.0], 4 + 2),  # 4 x (1 + 1 + 1 for the sign) = 12 bits
        # one entry at place 15: omega(16) = 11 bits, its level 2: 3 bits, its sign
        ([0.0] * 15 + [3.0], 4 + 2),
    ],
)
def test_qsgd_is_sent_in_elias_codes(values, size):
    assert sent("qsgd(levels=2)", values) == size


def test_ternary_entries_are_clipped_first():
    values = [0.0] * 99 + [10.0]  # deviation sqrt(100 / 100 - 0.1^2) = 0.995
    shared = share("terngrad(clip=2.5)", values)[0]
    assert shared[-1] == pytest.approx(2.5 * math.sqrt(0.99))
    assert share("terngrad(clip=0)", values)[0][-1] == 10
    assert share("terngrad(clip=2.5)", [3.0], [-2.0, -2.0]) == [[3], [-2, -2]]  # no deviation
    assert sent("terngrad", values) == 25 + 4


def test_terngrad_says_nothing_of_clipped_entries():
    shared = {"g": torch.tensor([4.0, 0.0, -4.0])}
    assert DEFENSES.parse("terngrad").account(shared) is None
    assert DEFENSES.parse("terngrad(clip=0)").account(shared).rounding["g"].tolist() == [4, 4, 4]


def test_probabilities_of_the_greedy_algorithm_by_hand():
    """Budget 3 of 6: 3 x 10 / 20 > 1, then 2 of the rest, 4 x 2 / 10 < 1."""
    sizes = torch.tensor([10.0, 4.0, 3.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    assert probabilities(sizes, 0.5).tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    # 5 of 6: 10 and 4, and then 3, reach 1; of the rest 2 are to be sent, and all of them are
    assert probabilities(sizes, 5 / 6).tolist() == pytest.approx([1, 1, 1, 1, 1, 0])
    assert probabilities(torch.zeros(4, dtype=torch.float64), 0.5).tolist() == [0] * 4
    many = torch.rand(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 6
    assert float(probabilities(many, 0.3).sum()) == pytest.approx(1500)


def test_random_sparsification_shares_one_magnitude_below_the_exact_entries():
    sizes = [10.0, 4.0, 3.0, 2.0, 1.0, 0.0]  # p as above: 4 / 0.8 = 5
    drawn = [share("random_sparsify(ratio=0.5)", sizes, seed=seed)[0] for seed in range(20)]
    assert {round(each, 5) for own in drawn for each in own} == {0, 5, 10}


@pytest.mark.parametrize(
    "defense",
    ["qsgd(levels=4)", "terngrad(clip=0)", "random_sparsify(ratio=0.1)", "top_k(ratio=0.1)", "dual_prune"],
)
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_accounts_of_several_rounds_are_true(defense, rounds):
    """Entries are off by no more than what is said, and are zeros where nothing is."""
    parsed, draws, memory = DEFENSES.parse(defense), torch.Generator().manual_seed(0), Memory()
    gradient = {"a": torch.randn(500, generator=draws), "b": torch.rand(30, generator=draws)}
    each = [parsed.share(gradient, draws, memory).gradients for _ in range(rounds)]
    mean = {name: sum(own[name] for own in each) / rounds for name in gradient}
    account = parsed.checked_account(mean, Mean(rounds))
    for name, own in gradient.items():
        kept = torch.ones_like(own, dtype=torch.bool) if account.kept is None else account.kept[name]
        bound = 0 * own if account.rounding is None else account.rounding[name]
        assert not mean[name][~kept].any()
        assert ((mean[name] - own).abs() <= bound * (1 + 1e-5) + 1e-5 * own.abs())[kept].all()
        assert kept.any() or name == "b"  # of which nothing may have been sent


@pytest.mark.parametrize(
    "defense", ["qsgd(levels=1)", "qsgd(levels=64)", "terngrad(clip=0)", "random_sparsify(ratio=0.1)", "sign"]
)
@pytest.mark.parametrize("rounds", [1, 4])
def test_mean_squares_are_about_those_of_the_errors(defense, rounds):
    """Of normally distributed entries, and never much too small."""
    parsed, draws = DEFENSES.parse(defense), torch.Generator().manual_seed(0)
    gradient = {"g": torch.randn(20_000, generator=draws)}
    mean = {"g": torch.stack([parsed(gradient, draws)["g"] for _ in range(rounds)]).mean(0)}
    told = parsed.checked_account(mean, Mean(rounds)).mean_squares["g"]
    measured = float((mean["g"] - gradient["g"]).double().square().mean())
    assert 0.9 * measured < told < 2 * measured
    assert parsed.checked_account(mean, Mean(rounds, clients=2)).mean_squares is None


def test_mean_squares_by_hand():
    """s = 4: 4 x the mean size 2 is above 4^2 / 4; 4 x 0.8 is below. A scaled sign of mean size 2."""
    terngrad = DEFENSES.parse("terngrad(clip=0)")
    assert terngrad.account({"g": torch.tensor([4.0, -4.0, 0.0, 0.0])}).mean_squares == {"g": 4.0}
    few = {"g": torch.tensor([4.0, 0.0, 0.0, 0.0, 0.0])}
    assert terngrad.account(few).mean_squares == {"g": pytest.approx(3.2)}
    assert terngrad.account_of_rounds(few, 2).mean_squares == {"g": pytest.approx(1.6)}
    signs = DEFENSES.parse("sign").account({"g": torch.tensor([2.0, -2.0])})
    assert signs.mean_squares == {"g": pytest.approx(2 * math.pi - 4)}


def test_a_tensor_that_was_rounded_to_zeros_says_nothing():
    shared = {"a": torch.zeros(5), "b": torch.tensor([0.0, -0.5])}
    account = DEFENSES.parse("qsgd(levels=4)").account(shared)
    assert account.kept["a"].tolist() == [False] * 5
    assert account.rounding["b"].tolist() == [0.5, 0.5]
    assert not any(
        each.any()
        for each in DEFENSES.parse("random_sparsify(ratio=0.1)").account({"a": shared["a"]}).kept.values()
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("top_k(ratio=0)", r"ratio: expected a number in \(0, 1\], got 0"),
        ("random_sparsify(ratio=1.5)", r"ratio: expected a number in \(0, 1\], got 1.5"),
        ("qsgd(levels=0)", "levels: expected a whole number >= 1, got 0"),
        ("terngrad(clip=-1)", "clip: expected a number >= 0, got -1"),
        ("sign(scale=max)", "scale: expected one of mean, none, got 'max'"),
        ("sign(scale=none, error_feedback=true)", "error_feedback: expected false with scale=none, got true"),
        ("dual_prune(largest=1)", r"largest: expected a number in \[0, 1\), got 1"),
        ("dual_prune(largest=0.5, smallest=0.5)", "expected largest \\+ smallest < 1, got 1"),
    ],
)  # fmt: skip
def test_settings_out_of_range(text, problem):
    with pytest.raises(SettingError, match=problem):
        DEFENSES.parse(text)
