"""Whether a new defense hides more than known ones that cost as little accuracy."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan, nan
from typing import Any

import pandas as pd

from bench.verdicts import Scale, Verdict
from reports.statistics import Interval, median_interval
from reports.summary import BASELINE, VICTIM, best_of_restarts
from reports.tables import summarize_utility

AS_ACCURATE = 0.02  # how much less accurate a known one may be and still be held against a new one
FEWEST = 6  # images: of fewer, no interval that lies between the values covers a median at 95 %


class Outcome(StrEnum):
    """What the images that both were attacked on tell."""

    AHEAD = "hides more"
    BEHIND = "hides less"
    EQUAL = "no difference beyond chance"
    BOTH_HIDE = "neither leaks"
    COSTS_MORE = "neither leaks, and it costs more accuracy"
    TOO_FEW = f"fewer than {FEWEST} images: cannot be told"
    ALONE = "no known defense is as accurate"


@dataclass(frozen=True)
class Standing:
    """A defense beside its rival, of the known ones that are as accurate or more.

    That is the one that hides most; where nothing leaks under either, the most accurate.
    """

    defense: str
    accuracy: float  # NaN where none was measured; then every known one is a rival
    ssim: float  # median over the images that leak without a defense
    rival: str  # empty where there is none
    rival_accuracy: float
    rival_ssim: float
    images: int  # that it and its rival were attacked on, and that leak without a defense
    difference: float  # median over them of its SSIM less the rival's
    interval: Interval
    outcome: Outcome

    def describe(self, names: Mapping[str, str]) -> str:
        """In a line, with other names for the defenses that have one."""
        own = names.get(self.defense, self.defense)
        if not self.images:
            return f"{own}: no image leaks without a defense, so nothing can be told"
        own = f"{own}: {_accuracy(self.accuracy)}SSIM {self.ssim:.3f}"
        if not self.rival:
            return f"{own}; {self.outcome}"
        rival = names.get(self.rival, self.rival)
        rival = f"{rival}, {_accuracy(self.rival_accuracy)}SSIM {self.rival_ssim:.3f}"
        low, high = self.interval
        by = f"median difference of SSIM {self.difference:+.3f}, 95 % CI {low:+.3f} to {high:+.3f}, "
        return f"{own}; beside {rival}: {self.outcome} ({'' if isnan(low) else by}n = {self.images})"


def standings(
    rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale, new: Collection[str]
) -> Iterator[Standing]:
    """Each new defense beside its rival, in the order of `new`.

    Args:
        rows: of the attacks, on one data set and one model.
        trainings: of that model; may be empty.
        scale: what counts as a leak.
        new: names of the defenses that are compared; the others are the known ones.
    """
    best = best_of_restarts(rows, scale)
    usable = best[best["attackable"]]
    images = usable.pivot_table(index=VICTIM, columns="defense", values="ssim", aggfunc="first")
    medians = images.median().to_dict()
    accuracies = accuracy_of(trainings)
    known = [name for name in rows["defense"].unique() if name != BASELINE and name not in new]
    for name in new:
        accuracy = accuracies.get(name, nan)
        rivals = [
            each for each in known if isnan(accuracy) or accuracies.get(each, nan) >= accuracy - AS_ACCURATE
        ]
        rival = _rival(name, rivals, medians, accuracies, scale)
        yield _standing(images, accuracies, name, rival, scale)


def _rival(
    name: str, rivals: list[str], medians: Mapping[Any, float], accuracies: Mapping[str, float], scale: Scale
) -> str:
    hiding = [each for each in rivals if each in medians and scale.verdict(medians[each]) == Verdict.NONE]
    if hiding and name in medians and scale.verdict(medians[name]) == Verdict.NONE:
        return max(hiding, key=lambda each: (accuracies.get(each, 0.0), -medians[each]))
    return min(rivals, key=lambda each: medians.get(each, inf), default="")


def accuracy_of(trainings: pd.DataFrame) -> dict[str, float]:
    """{defense: mean accuracy over the seeds}."""
    if trainings.empty:
        return {}
    return dict(summarize_utility(trainings).set_index("defense")["accuracy"])


def _standing(
    images: pd.DataFrame, accuracies: dict[str, float], name: str, rival: str, scale: Scale
) -> Standing:
    pairs = images.reindex(columns=[name, rival or name]).dropna()
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    own, other = (images[each].median() if each in images else nan for each in (name, rival))
    interval = median_interval(differences)
    accuracy, rival_accuracy = (accuracies.get(each, nan) for each in (name, rival))
    costs_more = rival_accuracy > accuracy + AS_ACCURATE
    outcome = _outcome(scale.verdict(own), scale.verdict(other), len(pairs), interval, costs_more)
    return Standing(
        name, accuracy, own, rival, rival_accuracy, other,
        len(pairs), differences.median(), interval, outcome if rival else Outcome.ALONE,
    )  # fmt: skip


def _outcome(own: Verdict, other: Verdict, images: int, interval: Interval, costs_more: bool) -> Outcome:
    if images < FEWEST:
        return Outcome.TOO_FEW
    if own == other == Verdict.NONE:
        return Outcome.COSTS_MORE if costs_more else Outcome.BOTH_HIDE
    if interval.high < 0:
        return Outcome.AHEAD
    return Outcome.BEHIND if interval.low > 0 else Outcome.EQUAL


def _accuracy(share: float) -> str:
    return "" if isnan(share) else f"accuracy {share:.1%}, "
