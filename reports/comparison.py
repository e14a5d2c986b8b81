"""Whether a new defense hides more than known defenses of similar accuracy."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan, nan
from typing import Any, NamedTuple

import pandas as pd

from leakbench.bench.modalities import Modality
from leakbench.bench.verdicts import Scale, Verdict
from leakbench.reports.labels import label_leaks, label_line
from leakbench.reports.selection import BASELINE, VICTIM, with_result
from leakbench.reports.statistics import Interval, mean_interval, median_interval, percent
from leakbench.reports.utility import TRAINED

AS_ACCURATE = 0.02  # how much less accurate than a new defense its rival may be
RULE = (
    "Each setting is compared with its rival: of the known defenses that are not more than 2 points of"
    " accuracy behind it beyond chance, the one that leaks least (if neither leaks, the most accurate)."
)
FEWEST_PAIRS = 6  # images; with fewer, no interval between two of the values covers a median at 95 %


class Outcome(StrEnum):
    """The result of a comparison, over the images that both defenses were attacked on."""

    AHEAD = "hides more"
    BEHIND = "hides less"
    EQUAL = "no difference beyond chance"
    BOTH_HIDE = "neither leaks"
    COSTS_MORE = "neither leaks, and it costs more accuracy"
    NO_RESULT = "no result to compare on an image that leaks without a defense"
    TOO_FEW = f"fewer than {FEWEST_PAIRS} images: cannot tell"
    ALONE = "no known defense is as accurate"


class Measured(NamedTuple):
    """A mean over training seeds and its interval, which is NaN for fewer than two seeds."""

    mean: float
    interval: Interval

    def __str__(self) -> str:
        return "" if isnan(self.mean) else f"accuracy {percent(self.mean, self.interval.low)}"


@dataclass(frozen=True)
class Standing:
    """A defense and its rival: see RULE."""

    defense: str
    accuracy: Measured  # NaN if not measured; then every known defense may be the rival
    modality: Modality  # of what was attacked
    median: float  # SSIM, of texts ROUGE-L, over the images that leak without a defense
    labels: str  # `12 of 12` images whose label leaks; empty if no more than by chance
    rival: str  # empty if there is none
    rival_accuracy: Measured
    rival_median: float
    images: int  # on which both were attacked, and which leak without a defense
    difference: float  # median over these images of its score minus the rival's
    interval: Interval
    cost: Measured  # of accuracy: the rival's minus its own, over the seeds that both have
    outcome: Outcome

    def describe(self, names: Mapping[str, str]) -> str:
        """The standing on one line; `names` replaces the names of some defenses."""
        own = names.get(self.defense, self.defense)
        if self.outcome == Outcome.NO_RESULT:
            return f"{own}: {self._outcome()}{self._labels()}"
        if not self.images:
            nothing = f"no {self.modality.one} leaks without a defense, so there is nothing to compare"
            return f"{own}: {nothing}{self._labels()}"
        own = f"{own}: {self._scores(self.accuracy, self.median)}"
        if not self.rival:
            return f"{own}; {self._outcome()}{self._labels()}"
        rival = f"{names.get(self.rival, self.rival)}, {self._scores(self.rival_accuracy, self.rival_median)}"
        return f"{own}; against {rival}: {self._outcome()} ({self._by()}n = {self.images}){self._labels()}"

    def _outcome(self) -> str:
        return self.modality.said(self.outcome)

    def _scores(self, accuracy: Measured, median: float) -> str:
        return ", ".join(filter(None, (str(accuracy), f"{self.modality.title} {median:.3f}")))

    def _by(self) -> str:
        low, high = self.interval
        by = f"median difference of {self.modality.title} {self.difference:+.3f}"
        by += f", 95 % CI {low:+.3f} to {high:+.3f}, "
        if self.outcome == Outcome.COSTS_MORE:
            cost, (least, most) = 100 * self.cost.mean, self.cost.interval
            by += f"{cost:.1f} points of accuracy, 95 % CI {100 * least:.1f} to {100 * most:.1f}, "
        return "" if isnan(low) else by

    def _labels(self) -> str:
        return f"; label leaks in {self.labels}" if self.labels else ""


def standings(
    rows: pd.DataFrame, best: pd.DataFrame, trainings: pd.DataFrame, scale: Scale, new: Collection[str]
) -> Iterator[Standing]:
    """Each new defense and its rival, in the order of `new`.

    Args:
        rows: attack rows on one dataset and one model.
        best: `strongest` of these rows.
        trainings: training rows of that model; may be empty.
        scale: what counts as a leak.
        new: names of the defenses to compare; all others are known ones.
    """
    usable = best[best["attackable"]]
    images = usable.pivot_table(index=VICTIM, columns="defense", values=scale.column, aggfunc="first")
    medians = images.median().to_dict()
    accuracies = Accuracies(trainings)
    known = [name for name in rows["defense"].unique() if name != BASELINE and name not in new]
    for name in new:
        rivals = [each for each in known if accuracies.keeps_up(each, name)]
        rival = _rival(name, rivals, medians, accuracies, scale)
        labels = label_line(best[best["defense"] == name])
        leaking = f"{labels['labels']} of {labels['labelled']}" if label_leaks(labels) else ""
        yield _standing(images, accuracies, name, leaking, rival, scale)


class Accuracies:
    """The measured accuracy of a model trained with each defense, seed by seed."""

    def __init__(self, trainings: pd.DataFrame):
        by_seed = with_result(trainings).set_index([*TRAINED, "seed"])
        self.known = {name: own["accuracy"] for name, own in by_seed.groupby("defense")}

    def of(self, name: str) -> Measured:
        """The mean over the seeds; NaN if there is none."""
        own = self.known.get(name, pd.Series(dtype=float))
        return Measured(own.mean(), mean_interval(own))

    def rank(self, name: str) -> float:
        """The mean as a sort key; defenses without one come last."""
        mean = self.of(name).mean
        return -inf if isnan(mean) else mean

    def lead(self, one: str, other: str) -> Measured:
        """How much more accurate one defense is than another: the mean over the seeds that both have."""
        if not {one, other} <= self.known.keys():
            return Measured(nan, Interval(nan, nan))
        differences = (self.known[one] - self.known[other]).dropna()
        return Measured(differences.mean(), mean_interval(differences))

    def keeps_up(self, known: str, new: str) -> bool:
        """Whether a known defense is not shown to be more than AS_ACCURATE less accurate than a new one.

        A single seed shows nothing. A defense that could not be trained with is no rival to one that could.
        """
        if new not in self.known:
            return True
        return known in self.known and not self.lead(known, new).interval.high < -AS_ACCURATE


def _rival(
    name: str, rivals: list[str], medians: Mapping[Any, float], accuracies: Accuracies, scale: Scale
) -> str:
    hiding = [each for each in rivals if each in medians and scale.verdict(medians[each]) == Verdict.NONE]
    if hiding and name in medians and scale.verdict(medians[name]) == Verdict.NONE:
        return max(hiding, key=lambda each: (accuracies.rank(each), -medians[each]))
    return min(rivals, key=lambda each: medians.get(each, inf), default="")


def _standing(
    images: pd.DataFrame, accuracies: Accuracies, name: str, labels: str, rival: str, scale: Scale
) -> Standing:
    pairs = images.reindex(columns=[name, rival or name]).dropna()
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    own, other = (images[each].median() if each in images else nan for each in (name, rival))
    interval = median_interval(differences)
    cost = accuracies.lead(rival, name)
    outcome = _outcome((own, other), len(pairs), interval, cost, scale) if rival else Outcome.ALONE
    if len(images) and pairs.empty:
        outcome = Outcome.NO_RESULT
    return Standing(
        name, accuracies.of(name), scale.modality, own, labels, rival, accuracies.of(rival), other,
        len(pairs), differences.median(), interval, cost, outcome,
    )  # fmt: skip


def _outcome(
    medians: tuple[float, float], images: int, interval: Interval, cost: Measured, scale: Scale
) -> Outcome:
    if images < FEWEST_PAIRS:
        return Outcome.TOO_FEW
    if {scale.verdict(each) for each in medians} == {Verdict.NONE}:
        return Outcome.COSTS_MORE if cost.interval.low > 0 else Outcome.BOTH_HIDE
    if interval.high < 0:
        return Outcome.AHEAD
    return Outcome.BEHIND if interval.low > 0 else Outcome.EQUAL
