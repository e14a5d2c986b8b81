"""Intervals, at 95 %. An image is one observation: starts on the same image are not independent."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isnan, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit  # the quantiles of scipy.stats, which takes a second to import

LEVEL = 0.95
RESAMPLES = 9_999
BAND_RESAMPLES = 999  # for a band along a curve
SEED = 0


class Interval(NamedTuple):
    """The ends of an interval; NaN if nothing can be said."""

    low: float
    high: float


def wilson(rate: float, observations: int) -> Interval:
    """The score interval of a share (Wilson 1927); (0, 1) if nothing was observed.

    Args:
        rate: the share, in 0..1; with several starts per image, the mean of the images' shares.
        observations: the number of images.
    """
    if not observations:
        return Interval(0.0, 1.0)
    z = float(ndtri((1 + LEVEL) / 2))
    centre = rate + z**2 / (2 * observations)
    half = z * sqrt(rate * (1 - rate) / observations + z**2 / (4 * observations**2))
    scale = 1 + z**2 / observations
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def median_interval(values: ArrayLike) -> Interval:
    """The interval of the median, by the percentile bootstrap (Efron 1979), with fixed resamples."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2 or np.isnan(array).any():
        return Interval(nan, nan)
    resamples = array[_resampled(len(array))]
    resamples.sort(axis=1)  # several times as fast as np.median
    medians = (resamples[:, (len(array) - 1) // 2] + resamples[:, len(array) // 2]) / 2
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = np.quantile(medians, tails, method="inverted_cdf")  # PSNR may be infinite
    return Interval(float(low), float(high))


@lru_cache(maxsize=1)
def _resampled(count: int) -> NDArray[np.integer]:
    """The indices in each resample, (RESAMPLES, count)."""
    return np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))


def median_band(curves: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The interval of the median of curves (n, steps) at every step, (steps,) each: bootstrap over curves."""
    chosen = np.random.default_rng(SEED).integers(len(curves), size=(BAND_RESAMPLES, len(curves)))
    low, high = np.quantile(
        [np.median(curves[own], axis=0) for own in chosen],
        [(1 - LEVEL) / 2, (1 + LEVEL) / 2],
        axis=0,
        method="inverted_cdf",
    )
    return low, high


class Correlation(NamedTuple):
    """A rank correlation with its interval; NaN if nothing can be said."""

    rho: float
    low: float
    high: float


def rank_correlation(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Spearman's rho of pairs, with the percentile bootstrap over them; equal values share their rank."""
    pairs = np.stack([np.asarray(a, dtype=float), np.asarray(b, dtype=float)])
    chosen = np.random.default_rng(SEED).integers(pairs.shape[1], size=(BAND_RESAMPLES, pairs.shape[1]))
    drawn = _spearman(pairs[:, chosen.T])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Correlation(nan, nan, nan)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(_spearman(pairs[:, :, None])[0]), float(low), float(high))


def _spearman(pairs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Spearman's rho (k,) of pairs (2, n, k); NaN if all values on one side are equal."""
    ranks = np.stack([pd.DataFrame(side).rank().to_numpy() for side in pairs])
    apart = ranks - ranks.mean(axis=1, keepdims=True)
    sizes = np.sqrt(np.square(apart).sum(axis=1)).prod(axis=0)
    rho: NDArray[np.floating] = apart.prod(axis=0).sum(axis=0) / np.where(sizes == 0, nan, sizes)
    return rho


def mean_interval(values: ArrayLike) -> Interval:
    """The interval of the mean of a few runs, by Student's t."""
    array = np.asarray(values, dtype=float)
    if len(array) < 2:
        return Interval(nan, nan)
    half = stdtrit(len(array) - 1, (1 + LEVEL) / 2) * array.std(ddof=1) / sqrt(len(array))
    return Interval(float(array.mean() - half), float(array.mean() + half))


def mean_of_medians(samples: Sequence[NDArray[np.floating]]) -> Interval:
    """The interval of the mean of several samples' medians, by the percentile bootstrap within each sample.

    Args:
        samples: (observations, values of one observation) each; NaN where there is no value.
    """
    if not samples or min(map(len, samples)) < 2:
        return Interval(nan, nan)
    generator = np.random.default_rng(SEED)
    means = np.mean([_medians(each, generator) for each in samples], axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _medians(sample: NDArray[np.floating], generator: np.random.Generator) -> NDArray[np.floating]:
    """Of each resample, (BAND_RESAMPLES,)."""
    drawn = sample[generator.integers(len(sample), size=(BAND_RESAMPLES, len(sample)))]
    medians: NDArray[np.floating] = np.nanmedian(drawn.reshape(BAND_RESAMPLES, -1), axis=1)
    return medians


def ends(prefix: str, interval: Interval) -> dict[str, float]:
    """An interval as two columns."""
    return {f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def with_interval(line: Mapping[str, Any], name: str, form: str) -> str:
    """A value of a line with its interval, NAME_low and NAME_high: `0.912 (0.871-0.950)`, or `-`."""
    value, low, high = (line[f"{name}{end}"] for end in ("", "_low", "_high"))
    if isnan(value):
        return "-"
    return f"{value:{form}}" + ("" if isnan(low) else f" ({low:{form}}-{high:{form}})")


def percent(value: float, low: float, sign: str = "") -> str:
    """A share and half its interval: `95.2 ± 0.4 %`; for one seed, the share alone."""
    if isnan(value):
        return "-"
    half = "" if isnan(low) else f" ± {100 * (value - low):.1f}"
    return f"{100 * value:{sign}.1f}{half} %"
