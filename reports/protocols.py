"""What leaks as a number in the protocol grows: local steps, clients of a sum, digits."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from leakbench.reports.names import short_attacks
from leakbench.reports.selection import BASELINE, scored
from leakbench.reports.setting import Setting
from leakbench.reports.statistics import ends, mean_interval, median_interval

FEWEST_VALUES = 3  # values, to show a course
STRONGEST = "strongest attack"  # on each victim


def along_protocols(settings: Sequence[Setting]) -> dict[str, pd.DataFrame]:
    """{setting of the protocols: a line for each of its values and attack}, of undefended victims.

    Protocols of one name: of several, the one with most. Where other settings differ, too, they make panels,
    of which those with FEWEST_VALUES are kept. Columns:
        panel: dataset, model and the other settings that differ.
        attack: its short name, or STRONGEST. An attack that somewhere had only some of the victims, because
            others left no more, has no line.
        value: of the setting.
        images: victims with a result.
        ssim, ssim_low, ssim_high: the median, with its interval; of texts rouge_l, ...
        recall, recall_low, recall_high: the mean share of the labels that were recovered, with its interval.
    """
    rows = _undefended(settings)
    if rows.empty:
        return {}
    score = settings[0].scale.column
    values = pd.DataFrame(map(json.loads, rows["protocol_settings"]), index=rows.index)
    numbers = [str(name) for name in values if pd.api.types.is_numeric_dtype(values[name])]
    # as text, since rows cannot be grouped by a list
    values = values.astype({name: str for name in values if name not in numbers})
    counts = {str(name): values[name].nunique(dropna=False) for name in values}
    rows = rows.assign(**values)
    found = {}
    for setting in numbers:
        places = ["dataset", "model", *(name for name in counts if counts[name] > 1 and name != setting)]
        own = rows.sort_values(places, key=lambda own: own if own.name in numbers else own.astype(str))
        panels = [
            part.assign(panel=_panel(dict(zip(places, place, strict=True))))
            for place, part in own.groupby(places, sort=False, dropna=False)
            if part[setting].nunique() >= FEWEST_VALUES
        ]
        if panels:
            found[setting] = pd.DataFrame(_lines(pd.concat(panels), setting, score))
    return found


def _lines(rows: pd.DataFrame, setting: str, score: str) -> Iterator[dict[str, Any]]:
    counts = rows.groupby("panel")[setting].nunique().to_dict()
    for (panel, attack), line in rows.groupby(["panel", "line"], sort=False):
        if line[setting].nunique() == counts[panel]:
            for value, own in line.groupby(setting):
                yield {"panel": panel, "attack": attack, "value": value, **_measured(own, score)}


def _undefended(settings: Sequence[Setting]) -> pd.DataFrame:
    """What was found of undefended victims, under protocols of one name; `line` names the attack."""
    parts = [part for each in settings for part in _attacked(each)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if rows.empty:
        return rows
    counts = rows.groupby("protocol_name")["protocol"].nunique()
    rows = rows[rows["protocol_name"] == counts.idxmax()]
    if rows["attack"].nunique() == 1:
        rows = rows[rows["line"] != STRONGEST]
    return rows.assign(line=rows["line"].map({STRONGEST: STRONGEST, **short_attacks(rows)}))


def _attacked(setting: Setting) -> Iterator[pd.DataFrame]:
    """The starts that attackers keep, by the strongest attack and by each that attacked all victims."""
    best, kept = (scored(rows[rows["defense"] == BASELINE]) for rows in (setting.best, setting.kept))
    yield best.assign(line=STRONGEST)
    for attack, own in kept.groupby("attack", sort=False):
        if len(own) == len(best):
            yield own.assign(line=attack)


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
