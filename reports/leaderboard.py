"""One line per defense, with everything needed to choose one."""

import pandas as pd

from leakbench.bench.verdicts import Scale
from leakbench.reports.selection import BASELINE
from leakbench.reports.summary import summarize
from leakbench.reports.utility import summarize_utility

UTILITY = ["accuracy", "accuracy_low", "accuracy_high", "change", "change_low", "change_high", "epsilon"]


def leaderboard(rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One line per defense of one setting: the undefended attack, then those that hide most first.

    Columns: those of `summarize`, of `summarize_utility` (NaN if nothing was trained), and
        attacks: all that were run.
        sent_bytes: size of one gradient, median over the trials; sent: its share of the undefended size.
        defense_seconds: time for one gradient, median over the trials.
    """
    return board(summarize(rows, scale), rows, trainings, scale)


def board(lines: pd.DataFrame, rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `leaderboard`, from the output of `summarize`."""
    costs = rows.groupby("defense")[["sent_bytes", "defense_seconds"]].median().astype(float)
    lines = lines.merge(costs.reset_index(), on="defense")
    lines["attacks"] = ", ".join(rows["attack"].unique())
    lines["sent"] = lines["sent_bytes"] / costs["sent_bytes"].get(BASELINE, float("nan"))
    trained = summarize_utility(trainings) if len(trainings) else pd.DataFrame(columns=["defense", *UTILITY])
    lines = lines.merge(trained[["defense", *UTILITY]], on="defense", how="left")
    lines[UTILITY] = lines[UTILITY].astype(float)
    lines = lines.sort_values(scale.column)
    baseline = lines["defense"] == BASELINE
    return pd.concat([lines[baseline], lines[~baseline]], ignore_index=True)


def describe_trainings(trainings: pd.DataFrame) -> str:
    """A sentence on how the accuracies were measured; empty if there are none."""
    if trainings.empty:
        return ""
    tests, seeds = ", ".join(trainings["test"].unique()), trainings["seed"].nunique()
    if seeds == 1:
        return f"Accuracy: on {tests}, one seed: a few points may be chance."
    return f"Accuracy: on {tests}, mean over {seeds} seeds."
