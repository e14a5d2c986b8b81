"""What changed between two runs, beyond chance: two versions of a defense, or of the program."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from leakbench.bench.verdicts import Scale, Verdict
from leakbench.reports.comparison import FEWEST_PAIRS
from leakbench.reports.names import defense_order
from leakbench.reports.selection import BASELINE, SETTING, VICTIM, counted, is_of, strongest, with_result
from leakbench.reports.statistics import Interval, mean_interval, median_interval
from leakbench.reports.utility import TRAINED

Pair = tuple[pd.DataFrame, pd.DataFrame]  # before and after


class Change(StrEnum):
    """How a defense changed. For the undefended attack, a lower score counts as worse."""

    WORSE = "worse"
    BETTER = "better"
    EQUAL = "equal"
    UNCERTAIN = "no change"
    TOO_FEW = "too few to tell"
    FAILED = "lost results"
    MISSING = "in one run only"


WORSENED = (Change.WORSE, Change.FAILED)


@dataclass(frozen=True)
class Difference:
    """One number of a defense in two runs, over the images or the seeds that both have."""

    place: str  # dataset, model and protocol; or how it was trained
    defense: str
    quantity: str
    pairs: int
    before: float  # median SSIM or ROUGE-L, or mean accuracy
    after: float
    difference: float  # median, or mean, of the differences
    interval: Interval
    change: Change


def differences(rows: Pair, trainings: Pair, scale: Scale) -> Iterator[Difference]:
    """The change in SSIM, of texts in ROUGE-L, of every defense of either run, then the change in accuracy.

    Args:
        rows: attack rows of both runs.
        trainings: training rows of both runs; either may be empty.
        scale: what counts as a leak.
    """
    bests = [counted(strongest(each, scale)) for each in rows]
    for place, defense, own in _defenses(rows, SETTING):
        pairs = _paired(_of(bests, SETTING, place, defense), VICTIM, scale.column)
        change = _lost(own, [*VICTIM, "attack", "start"]) or _score_change(pairs, defense, scale)
        yield _difference(place, defense, scale.title, pairs, pd.Series.median, median_interval, change)
    for place, defense, own in _defenses(trainings, TRAINED):
        pairs = _paired(own, [*TRAINED, "seed"], "accuracy")
        change = _lost(own, [*TRAINED, "seed"]) or _accuracy_change(pairs)
        yield _difference(place, defense, "accuracy", pairs, pd.Series.mean, mean_interval, change)


def conditions(tables: Sequence[pd.DataFrame]) -> str:
    """`cpu, AVX2, torch 2.6.0`: the hardware and version that computed the results in these tables."""
    columns = ["device", "hardware", "torch_version"]
    computed = pd.concat([with_result(table)[columns] for table in tables]).drop_duplicates()
    found = (
        f"{device.partition(':')[0]}, {hardware}, torch {version}"
        for device, hardware, version in computed.itertuples(index=False)
    )
    return " and ".join(sorted(set(found)))


def attackers(rows: pd.DataFrame) -> str:
    """`dlg, adaptive`: the attacks in these rows."""
    return ", ".join(sorted(rows["attack"].unique()))


def _defenses(tables: Pair, place: list[str]) -> Iterator[tuple[Any, str, list[pd.DataFrame]]]:
    """Each place and defense of either table, with its rows in both."""
    everything = pd.concat(tables)
    for own, part in everything.groupby(place, sort=False):
        for defense in defense_order(part):
            yield own, defense, _of(tables, place, own, defense)


def _of(tables: Sequence[pd.DataFrame], place: list[str], own: Any, defense: str) -> list[pd.DataFrame]:
    return [table[is_of(table, [*place, "defense"], [*own, defense])] for table in tables]


def _paired(tables: Sequence[pd.DataFrame], on: list[str], value: str) -> pd.DataFrame:
    """The columns before and after: the values of the entries that both tables have."""
    before, after = (table.set_index(on)[value] for table in tables)
    return pd.DataFrame({"before": before, "after": after}).dropna()


def _lost(tables: Sequence[pd.DataFrame], on: list[str]) -> Change | None:
    """Whether one table lacks the defense, or a trial that had a result no longer has one."""
    if any(table.empty for table in tables):
        return Change.MISSING
    before, after = (table.set_index(on) for table in tables)
    gone = with_result(before).index.intersection(after.index).difference(with_result(after).index)
    return Change.FAILED if len(gone) else None


def _score_change(pairs: pd.DataFrame, defense: str, scale: Scale) -> Change:
    change = pairs["after"] - pairs["before"]
    if len(pairs) and (change == 0).all():
        return Change.EQUAL
    if len(pairs) < FEWEST_PAIRS:
        return Change.TOO_FEW
    hidden = (scale.verdict(pairs[each].median()) == Verdict.NONE for each in ("before", "after"))
    low, high = median_interval(change)
    if low <= 0 <= high or all(hidden):
        return Change.UNCERTAIN
    return Change.WORSE if (low > 0) != (defense == BASELINE) else Change.BETTER


def _accuracy_change(pairs: pd.DataFrame) -> Change:
    change = pairs["after"] - pairs["before"]
    if len(pairs) and (change == 0).all():
        return Change.EQUAL
    low, high = mean_interval(change)
    if len(pairs) < 2:
        return Change.TOO_FEW
    return Change.UNCERTAIN if low <= 0 <= high else Change.WORSE if high < 0 else Change.BETTER


def _difference(
    place: Any,
    defense: str,
    quantity: str,
    pairs: pd.DataFrame,
    middle: Callable[[pd.Series], float],
    interval: Callable[[pd.Series], Interval],
    change: Change,
) -> Difference:
    differences = pairs["after"] - pairs["before"]
    before, after, difference = (middle(each) for each in (pairs["before"], pairs["after"], differences))
    name = " · ".join(map(str, place))
    return Difference(
        name, defense, quantity, len(pairs), before, after, difference, interval(differences), change
    )
