"""How many labels leaked."""

from collections.abc import Mapping
from math import nan
from typing import Any

import pandas as pd

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.bench.verdicts import Verdict
from leakbench.reports.selection import BASELINE
from leakbench.reports.statistics import ends, wilson


def label_line(best: pd.DataFrame) -> dict[str, Any]:
    """How many labels leaked, over every image with a result."""
    known = best["label_correct"].dropna()
    labels, labelled = int(known.sum()), len(known)
    return {
        "labels": labels,
        "labelled": labelled,
        **ends("labels_", wilson(labels / labelled if labelled else nan, labelled)),
        "chance": 1 / float(best["classes"].max()) if labelled else nan,
    }


def label_leaks(line: Mapping[Any, Any]) -> bool:
    """Whether the labels of such a line were recovered more often than by chance."""
    return bool(line["labelled"] and line["labels_low"] > line["chance"])


def labels_of_hidden(lines: pd.DataFrame, names: Mapping[str, str], modality: Modality = IMAGES) -> str:
    """`image hidden, label leaks in 20 of 20: int8` for such defenses; empty if there are none."""
    parts: dict[str, list[str]] = {}
    for line in lines.to_dict("records"):
        hidden = line["verdict"] == Verdict.NONE and line["defense"] != BASELINE
        if hidden and label_leaks(line):
            share = f"{line['labels']} of {line['labelled']}"
            parts.setdefault(share, []).append(names.get(line["defense"], line["defense"]))
    return "; ".join(
        f"{modality.one} hidden, label leaks in {share}: {', '.join(own)}" for share, own in parts.items()
    )
