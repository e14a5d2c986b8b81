"""Shared inference for a terminal: how well it classifies, what it costs, and what a party's view tells."""

from collections.abc import Iterator
from math import isnan
from typing import Any

import pandas as pd
from rich.table import Table

from leakbench.reports.names import short_names
from leakbench.reports.terminal import plain_table, put_below

COLUMNS = ("right", "agree", "error", "s/image", "parties", "dealer", "wrong")
CAPTION = (
    "agree: images classified as in the clear; error: the largest of a class score\n"
    "s/image: of the processor, all parties together; parties, dealer: what they send for an image\n"
    "wrong: truncations whose shares wrapped around; -: the engine does not tell"
)
MOST = 6  # confused pairs that are listed


def inference_tables(rows: pd.DataFrame, confused: pd.DataFrame) -> Iterator[Table]:
    """A table for each network.

    Args:
        rows: see `bench/private/rows.py: row`.
        confused: see `confusions` there.
    """
    names = short_names(rows["model"])
    for model, own in rows.groupby("model", sort=False):
        first = own.iloc[0]
        clear = f"accuracy in the clear {first['plain_accuracy']:.1%}"
        title = f"{names[str(model)]} · {first['images']} images · {clear}"
        table = plain_table(title, COLUMNS, first="precision")
        for line in own.to_dict("records"):
            table.add_row(f"{line['precision']} {line['engine']}", *_cells(line))
        others = confusion_lines(confused[confused["model"] == model])
        put_below(table, "\n".join([CAPTION, *others, ""]))
        yield table


def _cells(line: dict[Any, Any]) -> list[str]:
    wrong = "-" if isnan(line["wrong"]) else f"{line['wrong']:.0f}"
    return [
        f"{line['accuracy']:.1%}",
        f"{line['agreement']:.1%}",
        f"{line['logit_error']:.2g}",
        f"{line['seconds']:.2g}",
        size(line["party_bytes"]),
        size(line["dealer_bytes"]),
        wrong,
    ]


def size(count: float) -> str:
    """Bytes as `1.3 MB`."""
    if isnan(count):
        return "-"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def confusion_lines(confused: pd.DataFrame) -> Iterator[str]:
    """For each engine and precision that changes classes: which into which, and how often."""
    changed = confused[confused["plain"] != confused["shared"]]
    for (precision, engine), own in changed.groupby(["precision", "engine"], sort=False):
        pairs = own.sort_values("images", ascending=False, kind="stable")
        listed = [f"{p.plain} as {p.shared} ({p.images})" for p in pairs.head(MOST).itertuples()]
        more = f" and {len(pairs) - MOST} other pairs" if len(pairs) > MOST else ""
        yield f"{precision} {engine} takes {', '.join(listed)}{more}"


def view_lines(views: pd.DataFrame) -> Iterator[str]:
    """What one party's view tells, lines for each; see `view_row`."""
    names = short_names(views["model"]) if len(views) else {}
    for line in views.to_dict("records"):
        verdict = "nothing found" if line["clean"] else "NOT uniform"
        yield f"view of party {line['party']} of {names[line['model']]}: {verdict}"
        yield (
            f"  bits of {line['words']:,} words: |z| {line['largest_z']:.1f}, threshold"
            f" {line['z_threshold']:.1f}; a bit off by {line['bias_found_from']:.2g} is found"
        )
        yield (
            f"  correlation with the images: {line['correlation']:.4f}, threshold"
            f" {line['correlation_threshold']:.4f}; {line['correlation_found_from']:.4f} is found"
        )
        yield (
            f"  classes guessed: {line['guessed']:.1%} of {line['guessed_images']}, chance"
            f" {line['chance']:.1%}, threshold {line['guessed_threshold']:.1%}"
        )
