"""Which of the starts and attacks on an image count."""

from collections.abc import Sequence
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
    """For each attack, victim and defense, the start of lowest objective: the one an attacker would keep.

    Starts without a result are dropped; without any result there is no line.
    """
    # an attack that minimises nothing has no objective: its first start counts
    return _lowest(with_result(rows), "objective", [*VICTIM, "attack", "defense"])


def strongest(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """For each victim and defense, the attack that recovered most of the image, by the start it would keep.

    A defense is judged by its strongest attack, which the column `attack` names.
    Adds the columns `leaked`, and `attackable`: whether the image leaks to any attack without a defense;
    and those of `Modality.partial`: whether any attack, by the start it would keep, found that much.
    If the truth is unknown, both are False and say nothing: see `scored`.
    """
    return judged(kept_starts(rows), scale)


def judged(kept: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `strongest`, from the output of `kept_starts`."""
    best = most(kept, [*VICTIM, "defense"])
    best = best.assign(leaked=best[scale.column] >= scale.leak)
    for each in scale.modality.partial:
        found = kept.assign(found=(kept[list(each.least)] >= pd.Series(each.least)).all(axis=1))
        by_any = found.groupby([*VICTIM, "defense"])["found"].any().rename(each.column)
        best = best.join(by_any, on=[*VICTIM, "defense"])
    return best.assign(attackable=leaks_without(best, VICTIM, best))


def chosen(kept: pd.DataFrame) -> pd.DataFrame:
    """For each victim and defense, the result that an attacker would choose without knowing the image.

    This is the most likely result, by one measure for all attacks: `bench.posterior`. A result without
    labels has no such measure, and is chosen only if there is no other.

    Args:
        kept: the output of `kept_starts`.
    """
    return _lowest(kept, "neg_log_posterior", [*VICTIM, "defense"])


def _lowest(rows: pd.DataFrame, column: str, place: list[str]) -> pd.DataFrame:
    """The row at each place of the lowest number in that column; of equal ones, and of none, the first."""
    order = rows[column].sort_values(kind="stable").index  # those without one last
    return rows.loc[order].drop_duplicates(place).sort_index()


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
    """The lines of the first victim: one image and one draw of the weights."""
    return best[is_of(best, VICTIM, list(best[VICTIM].iloc[0]))]


def is_of(rows: pd.DataFrame, columns: list[str], values: Sequence[Any]) -> pd.Series:
    """Which rows have these values in these columns."""
    return (rows[columns] == list(values)).all(axis=1)


def leaks_without(leaks: pd.DataFrame, place: list[str], rows: pd.DataFrame) -> pd.Series:
    """For each row, whether the undefended attack leaked at the same place."""
    own = leaks[[*place, "defense", "leaked"]]  # joining all columns takes ten times as long
    baseline = own[own["defense"] == BASELINE].set_index(place)["leaked"].rename("undefended")
    return rows[place].join(baseline, on=place)["undefended"].eq(True)


def rebuilt_inputs(rows: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.Series:
    """Of which lines of `best` the images did not leak, but those that the defense had made of them did.

    Args:
        rows: all rows of the defense.
        best: its lines, with `leaked`.
        scale: what counts as a leak.
    """
    most = rows.groupby(VICTIM)["input_score"].max().rename("most")
    return (best[VICTIM].join(most, on=VICTIM)["most"] >= scale.leak) & ~best["leaked"]
