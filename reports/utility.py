"""How well models train with each defense."""

from collections.abc import Iterator
from math import isnan, nan

import pandas as pd
from rich.table import Table

from leakbench.bench.attacks import Status
from leakbench.bench.privacy import DELTA, can_account, epsilon_of
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.selection import BASELINE, with_result
from leakbench.reports.statistics import ends, mean_interval, percent
from leakbench.reports.terminal import plain_table, put_below

MOST = 1000  # larger values of epsilon promise nothing, and are not told apart
TRAINED = ["train", "test", "model", "protocol", "recipe"]  # columns in which compared trainings agree
UTILITY_CAPTION = (
    "accuracy: on the test examples after the last epoch, mean over the seeds ± half of its 95 % interval\n"
    "change: compared with the undefended training of the same seed"
)


def summarize_utility(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per model, data, recipe and defense: how well the model trains with that defense.

    Columns, in addition to these names:
        trainings, failed: all rows, and those without a result.
        diverged: trainings that ended early because a gradient was no longer finite.
        accuracy, accuracy_low, accuracy_high: mean over the seeds, with Student's interval.
        change, change_low, change_high: of accuracy, from the undefended training of the same seed.
        epsilon: the largest of any seed, see `epsilon_of`; NaN if the defense guarantees none, or if
            dp-accounting is not installed, which works it out.
    """
    lines = []
    for place, part in rows.groupby(TRAINED, sort=False):
        baseline = part[part["defense"] == BASELINE].set_index("seed")["accuracy"]
        for defense in defense_order(part):
            own = part[part["defense"] == defense].set_index("seed")
            measured = with_result(own)["accuracy"]
            change = (measured - baseline).dropna()
            lines.append(
                dict(zip([*TRAINED, "defense"], [*place, defense], strict=True))
                | {
                    "trainings": len(own),
                    "failed": len(own) - len(with_result(own)),
                    "diverged": int((own["status"] == Status.DIVERGED).sum()),
                }
                | {"accuracy": measured.mean()} | ends("accuracy_", mean_interval(measured))
                | {"change": change.mean()} | ends("change_", mean_interval(change))
                | {"epsilon": _epsilon(with_result(own))}
            )  # fmt: skip
    return pd.DataFrame(lines)


def _epsilon(rows: pd.DataFrame) -> float:
    private = rows[rows["noise_multiplier"].notna()]
    if private.empty or not can_account():
        return nan
    settings = private[["noise_multiplier", "sampling_rate", "steps"]].drop_duplicates()
    return max(epsilon_of(noise, rate, int(steps)) for noise, rate, steps in settings.itertuples(index=False))


def is_private(rows: pd.DataFrame) -> bool:
    """Whether an epsilon follows from the settings of any training."""
    return bool(len(rows)) and bool(rows["noise_multiplier"].notna().any())


def epsilon_caption() -> str:
    """What epsilon is, or what it needs."""
    if not can_account():
        return "epsilon: needs dp-accounting, which is not installed: pip install dp-accounting"
    return f"epsilon: of differential privacy, per example, for the whole training, at delta = {DELTA:g}"


def epsilon_text(epsilon: float) -> str:
    """Epsilon for a table; values that promise nothing are cut off."""
    if isnan(epsilon):
        return "-"
    return f"> {MOST}" if epsilon > MOST else f"{epsilon:.2f}"


def utility_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table for each model, data and recipe."""
    private = is_private(rows)
    for place, lines in summarize_utility(shortened(rows)).groupby(TRAINED, sort=False):
        heads = ("trainings", "accuracy", "change", *["epsilon"] * private)
        table = plain_table(" · ".join(map(str, place)), heads)
        for line in lines.to_dict("records"):
            failed = f" ({line['failed']} failed)" if line["failed"] else ""
            accuracy = percent(line["accuracy"], line["accuracy_low"])
            change = percent(line["change"], line["change_low"], "+")
            cells = accuracy, change, *[epsilon_text(line["epsilon"])] * private
            table.add_row(line["defense"], f"{line['trainings']}{failed}", *cells)
        put_below(table, "\n".join([UTILITY_CAPTION, *[epsilon_caption()] * private]))
        yield table
