"""Which rows stand for an image: of its starts and attacks those that count."""

from collections.abc import Sequence
from math import inf
from typing import Any

import pandas as pd

from leakbench.bench.attacks import Status
from leakbench.bench.verdicts import Scale

BASELINE = "none"
SETTING = ["dataset", "model", "protocol"]  # tables and figures never mix these
VICTIM = [*SETTING, "index", "model_seed"]  # one image through one network: what is attacked


def with_result(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials, or of trainings, that did not fail."""
    statuses = [each.value for each in Status if each.has_result]
    return rows[rows["status"].isin(statuses)]


def kept_starts(rows: pd.DataFrame) -> pd.DataFrame:
    """For each attack, victim and defense the start of lowest objective: the one its attacker would keep.

    Starts without a result are left out; what has none at all has no line.
    """
    measured = with_result(rows)
    # an attack that minimises nothing has no objective: of its starts the first stands
    loss = measured["objective"].fillna(inf)
    places = [measured[name] for name in (*VICTIM, "attack", "defense")]
    return measured.loc[loss.groupby(places, sort=False).idxmin()].sort_index()


def strongest(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """For each victim and defense the attack that got most of the picture, by the start that it would keep.

    A defense is worth what the strongest attack leaves of it; the column `attack` says which that was.
    Adds the columns `leaked` and `attackable`: whether any attack leaked that image without a defense.
    Where the truth is unknown, both are False and say nothing: see `scored`.
    """
    return judged(kept_starts(rows), scale)


def judged(kept: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `strongest`, of what `kept_starts` gives."""
    best = most(kept, [*VICTIM, "defense"])
    best = best.assign(leaked=best["ssim"] >= scale.leak)
    return best.assign(attackable=leaks_without(best, VICTIM, best))


def chosen(kept: pd.DataFrame) -> pd.DataFrame:
    """For each victim and defense what an attacker would choose, who does not know which attack got most.

    The most likely of what the attacks got, by one measure for all of them: `bench.posterior`. An attack
    that gives no labels has none, and is chosen where there is no other.

    Args:
        kept: as `kept_starts` gives it.
    """
    value = kept["neg_log_posterior"].fillna(inf)
    places = [kept[name] for name in (*VICTIM, "defense")]
    return kept.loc[value.groupby(places, sort=False).idxmin()].sort_index()


def most(rows: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """The row of highest score at each place; of equal ones the first.

    Where the truth is unknown, that which an attacker would choose, see `chosen`.
    """
    unknown = rows["score"].isna()
    measures = [-rows["score"], *(rows[each].where(unknown) for each in ("neg_log_posterior", "match_loss"))]
    order = pd.concat(measures, axis=1).sort_values(["score", "neg_log_posterior", "match_loss"]).index
    return rows.loc[order].drop_duplicates(place).sort_index()


def scored(best: pd.DataFrame) -> pd.DataFrame:
    """The lines whose truth is known; of the others nobody can say whether they leaked."""
    return best[best["score"].notna()]


def counted(best: pd.DataFrame) -> pd.DataFrame:
    """The lines that count: of `none` all, of a defense those of images that leak without it."""
    known = scored(best)
    return known[known["attackable"] | (known["defense"] == BASELINE)]


def first_victim(best: pd.DataFrame) -> pd.DataFrame:
    """The lines of the first image, and of the weights it was attacked with."""
    return best[is_of(best, VICTIM, list(best[VICTIM].iloc[0]))]


def is_of(rows: pd.DataFrame, columns: list[str], values: Sequence[Any]) -> pd.Series:
    """Which rows have these values there."""
    return (rows[columns] == list(values)).all(axis=1)


def leaks_without(leaks: pd.DataFrame, place: list[str], rows: pd.DataFrame) -> pd.Series:
    """For each of the rows, whether the undefended attack leaked at its place."""
    baseline = leaks[leaks["defense"] == BASELINE].set_index(place)["leaked"].rename("undefended")
    return rows.join(baseline, on=place)["undefended"].eq(True)
