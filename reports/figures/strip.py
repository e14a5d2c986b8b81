"""What the attacker sees: reconstructions, next to the original; of DLG and of the strongest attack."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.modalities import TEXTS
from leakbench.bench.verdicts import Scale
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.figures.strip_of_texts import draw_words
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.pictures import MOST_COLUMNS, Sheet, two_lines
from leakbench.reports.run import Run
from leakbench.reports.selection import VICTIM, most
from leakbench.reports.setting import Setting
from leakbench.reports.style import caption
from leakbench.sweeps.store import Store

MOST_IMAGES = 4
SIDE, WIDTH = 1.0, 1.08  # of a picture; distance from one to the next
NAMES, BELOW = 0.44, 0.18  # heights: of a defense's name, and of a line below a picture
HEAD = 0.52  # space above the first
LABEL = 0.3  # width of the name of a row
GAP = 0.04  # left of a picture
SIZE = 9.2  # of letters, in points
PAPER = "DLG"


@dataclass(frozen=True)
class _Cell:
    """A picture with what is written about it."""

    picture: np.ndarray | None  # (C, H, W)
    below: str = ""
    leaked: bool = False


def draw_strip(store: Store, best: pd.DataFrame, kept: pd.DataFrame, scale: Scale) -> Figure:
    """Original and reconstruction by defense, with the SSIM of each, for the first images; leaks are framed.

    Where DLG and other attacks were run, one row shows what DLG found, and one what the strongest found.

    Args:
        store: the run's store.
        best: the result of the strongest attack on each image under each defense: see `strongest`.
        kept: the results of all attacks: see `kept_starts`.
        scale: what counts as a leak.
    """
    rows, order = _rows(best, kept), defense_order(best)
    lines = [order[first : first + MOST_COLUMNS] for first in range(0, len(order), MOST_COLUMNS)]
    victims = best[VICTIM].drop_duplicates()[:MOST_IMAGES]
    named = (
        set(rows) - {PAPER} if kept["attack"].nunique() > 1 else set()
    )  # rows that say who was the strongest
    cells = {each: _cells(store, own.merge(victims), scale, each in named) for each, own in rows.items()}
    originals = store.originals(zip(victims["dataset"], victims["index"], strict=True))
    *tops, height = accumulate((SIDE + BELOW * (1 + (each in named)) for each in rows), initial=NAMES)
    left = GAP + WIDTH + (LABEL if len(rows) > 1 else 0)
    sheet = Sheet(left + len(lines[0]) * WIDTH, HEAD + len(victims) * len(lines) * height)
    sheet.write(caption(best), sheet.width / 2, 0.05, 9, va="top")
    sheet.write(f"framed: a leak, SSIM {scale.leak} or more", sheet.width / 2, 0.24, SIZE, va="top")
    for number, (victim, line) in enumerate(product(victims.to_dict("records"), lines)):
        top = HEAD + number * height
        if line is lines[0]:
            original = _Cell(originals.get((victim["dataset"], victim["index"])))
            _show(sheet, f"original\nimage {victim['index']}", original, GAP, top + (tops[0] + tops[-1]) / 2)
        for title, down in zip(rows, tops, strict=True):
            sheet.write(title, left - GAP - LABEL / 2, top + down + SIDE / 2, SIZE, va="center", rotation=90)
            for across, defense in enumerate(line):
                name = two_lines(defense) if down == NAMES else ""
                cell = cells[title].get((*victim.values(), defense), _Cell(None))
                _show(sheet, name, cell, left + across * WIDTH, top + down)
    return sheet.figure


def _rows(best: pd.DataFrame, kept: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{title: the results in a row of pictures}."""
    paper = kept[kept["attack_name"] == DLG.name]
    if paper.empty or kept["attack"].nunique() == 1:
        return {"": best}
    return {PAPER: most(paper, [*VICTIM, "defense"]), "strongest attack": best}


def _cells(store: Store, rows: pd.DataFrame, scale: Scale, named: bool) -> dict[tuple[Any, ...], _Cell]:
    """{victim and defense: its picture, with its SSIM and, if it is to be named, the attack}."""
    traces = store.traces(rows["key"])
    cells = {}
    for row in rows.to_dict("records"):
        if row["key"] in traces:
            attack = "\n" + row["attack_name"].rpartition(":")[2] if named else ""
            cells[(*(row[each] for each in VICTIM), row["defense"])] = _Cell(
                traces[row["key"]].reconstruction[0],
                f"SSIM {row[scale.column]:.2f}{attack}",
                row[scale.column] >= scale.leak,
            )
    return cells


def _show(sheet: Sheet, above: str, cell: _Cell, left: float, top: float) -> None:
    middle = left + SIDE / 2
    sheet.write(above, middle, top - 0.05, SIZE, va="bottom")
    weight = "bold" if cell.leaked else "normal"
    sheet.write(cell.below, middle, top + SIDE + 0.04, SIZE, va="top", linespacing=1.1, weight=weight)
    if cell.picture is not None:
        sheet.show(cell.picture, left, top, SIDE)
    if cell.leaked:
        sheet.frame(left, top, SIDE)


def _draw(run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    best = shortened(setting.best)
    if len(best) and setting.scale.modality is TEXTS:
        yield "", draw_words(run.store, best, setting.scale)
    elif len(best):
        yield "", draw_strip(run.store, best, shortened(setting.kept), setting.scale)


KIND = Kind(40, "strip", "", _draw)
