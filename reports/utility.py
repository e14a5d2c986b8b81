"""How well models train with each defense."""

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from leakbench.bench.attacks import Status
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.selection import BASELINE, with_result
from leakbench.reports.statistics import ends, mean_interval, percent
from leakbench.reports.terminal import plain_table, put_below

TRAINED = ["train", "test", "model", "protocol", "recipe"]  # columns in which compared trainings agree
UTILITY_CAPTION = (
    "accuracy: on the test images after the last epoch, mean over the seeds ± half of its 95 % interval\n"
    "change: compared with the undefended training of the same seed"
)


def summarize_utility(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per model, data, recipe and defense: how well the model trains with that defense.

    Columns, in addition to these names:
        trainings, failed: all rows, and those without a result.
        diverged: trainings that ended early because a gradient was no longer finite.
        accuracy, accuracy_low, accuracy_high: mean over the seeds, with Student's interval.
        change, change_low, change_high: of accuracy, from the undefended training of the same seed.
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
            )  # fmt: skip
    return pd.DataFrame(lines)


def utility_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table for each model, data and recipe."""
    for place, lines in summarize_utility(shortened(rows)).groupby(TRAINED, sort=False):
        table = plain_table(" · ".join(map(str, place)), ("trainings", "accuracy", "change"))
        for line in lines.to_dict("records"):
            failed = f" ({line['failed']} failed)" if line["failed"] else ""
            accuracy = percent(line["accuracy"], line["accuracy_low"])
            change = percent(line["change"], line["change_low"], "+")
            table.add_row(line["defense"], f"{line['trainings']}{failed}", accuracy, change)
        put_below(table, UTILITY_CAPTION)
        yield table
