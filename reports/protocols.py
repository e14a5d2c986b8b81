"""What leaks as a number in the protocol grows: local steps, clients of a sum, digits."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from leakbench.reports.names import short_attacks
from leakbench.reports.selection import BASELINE, scored
from leakbench.reports.setting import Setting
from leakbench.reports.statistics import ends, mean_interval, median_interval

FEWEST_VALUES = 3  # values, to show a course


def along_protocols(settings: Sequence[Setting]) -> tuple[str, pd.DataFrame]:
    """The setting of the protocols that takes most values, and a line for each value and attack.

    Only undefended victims, and protocols of one name: of several, the one with most. Columns:
        panel: dataset, model and the other settings that differ.
        attack: its short name.
        value: of the setting.
        images: victims with a result.
        ssim, ssim_low, ssim_high: the median, with its interval; of texts rouge_l, ...
        recall, recall_low, recall_high: the mean share of the labels that were recovered, with its interval.

    No line where no setting has FEWEST_VALUES.
    """
    rows = _undefended(settings)
    if rows.empty:
        return "", pd.DataFrame()
    score = settings[0].scale.column
    values = pd.DataFrame(map(json.loads, rows["protocol_settings"]), index=rows.index)
    numbers = [str(name) for name in values if pd.api.types.is_numeric_dtype(values[name])]
    # as text, since rows cannot be grouped by a list
    values = values.astype({name: str for name in values if name not in numbers})
    counts = {str(name): values[name].nunique(dropna=False) for name in values}
    setting = max(numbers, key=lambda name: counts[name], default="")
    if counts.get(setting, 0) < FEWEST_VALUES:
        return "", pd.DataFrame()
    places = ["dataset", "model", *(name for name in counts if counts[name] > 1 and name != setting)]
    rows = rows.assign(**values, short=rows["attack"].map(short_attacks(rows)))
    rows = rows.sort_values(places, key=lambda own: own if own.name in numbers else own.astype(str))
    lines = [
        {
            "panel": _panel(dict(zip(places, place, strict=True))),
            "attack": attack,
            "value": value,
            **_measured(own, score),
        }
        for (*place, attack, value), own in rows.groupby(
            [*places, "short", setting], sort=False, dropna=False
        )
    ]
    return setting, pd.DataFrame(lines)


def _undefended(settings: Sequence[Setting]) -> pd.DataFrame:
    """The starts that attackers keep, of undefended victims under protocols of one name."""
    parts = [scored(each.kept[each.kept["defense"] == BASELINE]) for each in settings]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if rows.empty:
        return rows
    counts = rows.groupby("protocol_name")["protocol"].nunique()
    return rows[rows["protocol_name"] == counts.idxmax()]


def _panel(place: dict[str, Any]) -> str:
    names = place.pop("dataset"), place.pop("model")
    differing = ", ".join(f"{name}={value}" for name, value in place.items())
    return "\n".join(filter(None, (*names, differing)))


def _measured(rows: pd.DataFrame, score: str) -> dict[str, Any]:
    recall = mean_interval(rows["label_recall"])
    return {
        "images": len(rows),
        score: rows[score].median(),
        **ends(f"{score}_", median_interval(rows[score])),
        "recall": rows["label_recall"].mean(),
        "recall_low": max(recall.low, 0.0),
        "recall_high": min(recall.high, 1.0),
    }
