"""Intervals against values known from elsewhere, and each column of a summary computed again."""

import math

import numpy as np
import pytest
from made_up import table

from leakbench.bench.verdicts import Scale
from leakbench.reports.statistics import mean_interval, mean_of_medians, median_band, median_interval, wilson
from leakbench.reports.summary import summarize


@pytest.mark.parametrize(
    ("share", "n", "interval"),
    [(0.8, 10, (0.490, 0.943)), (0, 10, (0, 0.278)), (1, 10, (0.722, 1)), (0.5, 100, (0.404, 0.596))],
)
def test_wilson_of_known_cases(share, n, interval):
    """Wilson 1927; 0 of 10 and 10 of 10 are z^2 / (n + z^2) from the ends."""
    assert wilson(share, n) == pytest.approx(interval, abs=5e-4)


def test_nothing_observed_says_nothing():
    assert wilson(math.nan, 0) == (0, 1)
    for interval in (median_interval([]), median_interval([1.0]), mean_interval([0.9])):
        assert all(map(math.isnan, interval))


def test_the_mean_of_three_runs():
    """Student's t of 2 degrees of freedom is 4.303 at 95 %."""
    half = 4.303 / math.sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-3)


def test_the_bootstrap_covers_the_median_as_often_as_it_says():
    samples = np.random.default_rng(1).normal(size=(300, 20))
    intervals = [median_interval(sample) for sample in samples]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.99
    assert median_interval(samples[0]) == intervals[0]  # always the same resamples


def test_the_mean_of_medians_is_as_uncertain_as_its_samples():
    """By hand: of (0, 0, 1) a resample has the median 1 where it drew 1 twice or three times: 7 of 27."""
    known, open_ = np.array([[0.4], [0.4], [0.4]]), np.array([[0.0], [0.0], [1.0]])
    assert mean_of_medians([known]) == pytest.approx((0.4, 0.4))
    assert mean_of_medians([known, open_]) == pytest.approx((0.2, 0.7))
    assert all(map(math.isnan, mean_of_medians([known, open_[:1]])))
    assert all(map(math.isnan, mean_of_medians([])))


def test_draws_of_one_observation_are_resampled_together():
    """Three draws that agree are worth one: the interval is as wide as without them."""
    values = np.linspace(0, 1, 12)[:, None]
    repeated = np.concatenate([values, values, np.full_like(values, np.nan)], axis=1)
    assert mean_of_medians([repeated]) == mean_of_medians([values])


def test_an_infinite_value_is_a_value():
    assert median_interval([1.0, 2.0, math.inf]) == (1.0, math.inf)


def test_a_band_is_the_interval_of_the_median_at_each_step():
    curves = np.random.default_rng(2).normal(size=(200, 4)) + np.arange(4)
    low, high = median_band(curves)
    assert low.shape == high.shape == (4,)
    for step in range(4):
        assert (low[step], high[step]) == pytest.approx(tuple(median_interval(curves[:, step])), abs=0.08)
    assert (low <= np.median(curves, axis=0)).all()
    assert (np.median(curves, axis=0) <= high).all()


ROWS = table(
    ("none", 0, 0, 1e-6, 0.99), ("none", 0, 1, 9.0, 0.1),
    ("none", 1, 0, 2e-6, 0.95), ("none", 1, 1, 1e-6, 0.97),
    ("int8", 0, 0, 1e-3, 0.91), ("int8", 0, 1, 1e-4, 0.95),
    ("int8", 1, 0, 1e-3, 0.55), ("int8", 1, 1, 1e-2, 0.92),
)  # fmt: skip


def test_single_starts_and_the_best_of_them_are_both_reported():
    none, int8 = (summarize(ROWS, Scale()).set_index("defense").loc[name] for name in ("none", "int8"))
    assert (none["single"], int8["single"]) == (0.75, 0.75)  # 3 of 4 starts
    assert (none["rate"], int8["rate"]) == (1.0, 0.5)
    assert (int8["single_low"], int8["single_high"]) == wilson(0.75, 2)  # two images, not four starts


def test_a_difference_is_taken_from_the_same_image_and_start_where_that_leaked():
    int8 = summarize(ROWS, Scale()).set_index("defense").loc["int8"]
    first = 0.99 - 0.91  # the other start does not leak without a defense either
    second = np.median([0.95 - 0.55, 0.97 - 0.92])
    assert int8["drop"] == pytest.approx(np.median([first, second]))
    assert (int8["drop_low"], int8["drop_high"]) == pytest.approx((first, second))


@pytest.mark.parametrize(
    ("scale", "verdict"), [({}, "artifacts"), ({"leak": 0.7}, "leak"), ({"artifacts": 0.8}, "no leak")]
)
def test_thresholds_are_a_setting(scale, verdict):
    """The median of int8's best starts, 0.95 and 0.55, is 0.75."""
    assert summarize(ROWS, Scale(**scale)).set_index("defense").loc["int8", "verdict"] == verdict


@pytest.mark.parametrize(
    "values", [np.arange(7.0) ** 3, np.arange(20.0) ** 3, [1.0, 2.0, math.inf, math.inf]]
)
def test_the_bootstrap_again_with_plain_numpy(values):
    drawn = np.random.default_rng(0).choice(values, (9_999, len(values)))
    ends = np.quantile(np.median(drawn, axis=1), [0.025, 0.975], method="inverted_cdf")
    assert median_interval(values) == pytest.approx(ends, rel=1e-15)
