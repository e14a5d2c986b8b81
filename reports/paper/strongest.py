"""Figure 7's defenses once more: under the strongest attack, compared with DLG."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure

from leakbench.bench.verdicts import Scale
from leakbench.reports.paper.figure7 import PANELS, Curve, curves_of, meaning_of
from leakbench.reports.paper.reference import Reading
from leakbench.reports.pictures import clear, show_image
from leakbench.reports.selection import (
    BASELINE,
    SETTING,
    VICTIM,
    counted,
    first_victim,
    is_of,
    kept_starts,
    strongest,
)
from leakbench.reports.statistics import ends, median_interval
from leakbench.reports.style import caption
from leakbench.reports.summary import summarize
from leakbench.sweeps.store import Store


class Way(NamedTuple):
    """One of the two attackers that are drawn side by side."""

    name: str
    prefix: str  # of its columns in `beside_dlg`
    colour: str
    marker: str
    aside: float  # offset from the middle of a defense's column


WAYS = (Way("DLG", "dlg", "0.45", "o", -0.12), Way("strongest", "ssim", "#AA4499", "s", 0.12))


def alone(rows: pd.DataFrame, attack: str, best: pd.DataFrame) -> pd.DataFrame:
    """The starts that one attack keeps, with `attackable`: whether the victim leaks to any, undefended.

    Args:
        rows: rows of all attacks.
        attack: its name in these rows.
        best: `strongest` of these rows.
    """
    place = [*VICTIM, "defense"]
    kept = kept_starts(rows[rows["attack"] == attack])
    return kept.join(best.set_index(place)["attackable"], on=place)


def beside_dlg(rows: pd.DataFrame, dlg: str, scale: Scale) -> pd.DataFrame:
    """The lines of `summarize`, which use the strongest attack, with DLG's results on the same images.

    Adds dlg (median SSIM), dlg_low, dlg_high and dlg_leaked; NaN if DLG was not run.
    """
    own = counted(alone(rows, dlg, strongest(rows, scale)))
    lines = [
        dict(zip([*SETTING, "defense"], place, strict=True))
        | {"dlg": part["ssim"].median(), "dlg_leaked": int((part["ssim"] >= scale.leak).sum())}
        | ends("dlg_", median_interval(part["ssim"]))
        for place, part in own.groupby([*SETTING, "defense"], sort=False)
    ]
    columns = [*SETTING, "defense", "dlg", "dlg_leaked", "dlg_low", "dlg_high"]
    return summarize(rows, scale).merge(pd.DataFrame(lines, columns=columns), how="left")


def draw_strongest(
    stores: Sequence[Store], rows: pd.DataFrame, dlg: str, scale: Scale, reading: Reading
) -> Figure:
    """The panels of Figure 7 with SSIM in place of the loss: DLG and the strongest attack side by side.

    Below: one original image, as DLG rebuilt it, and as the strongest attack did.

    Args:
        stores: the stores of the runs.
        rows: rows of all of them, of one setting.
        dlg: the name of DLG in these rows.
        scale: what counts as a leak.
        reading: what the paper's words are taken to mean.
    """
    best = strongest(rows, scale)
    lines = beside_dlg(rows, dlg, scale).set_index("defense")
    pictures = _Pictures(stores, alone(rows, dlg, best), best)
    panels = {title: curves_of(kinds, list(lines.index), reading) for title, kinds in PANELS.items()}
    figure = Figure(figsize=(13, 6), layout="constrained")
    widths = [len(curves) for curves in panels.values()]
    parts = figure.subfigures(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for number, (part, (title, curves)) in enumerate(zip(parts, panels.items(), strict=True)):
        part.suptitle(f"{title}\n{meaning_of(PANELS[title][0], reading)}", fontsize=10)
        _draw_panel(part, curves, lines, pictures, scale, first=number == 0)
    text = (
        "median SSIM with its 95 % interval of the images that leak undefended to any attack; dotted lines:"
        " thresholds for artifacts and leak"
    )
    figure.suptitle(f"{caption(best.assign(attack='DLG and the strongest'))}; {text}", fontsize=9)
    return figure


class _Pictures:
    """One image that counts, and its reconstructions."""

    def __init__(self, stores: Sequence[Store], dlg: pd.DataFrame, best: pd.DataFrame):
        best = best[best["attackable"]] if best["attackable"].any() else best
        own = first_victim(best)
        same = is_of(dlg, VICTIM, list(own[VICTIM].iloc[0]))
        self.rows = {"dlg": dlg[same].set_index("defense"), "ssim": own.set_index("defense")}
        keys = pd.concat([rows["key"] for rows in self.rows.values()])
        self.traces = {key: trace for store in stores for key, trace in store.traces(keys).items()}
        place = (own["dataset"].iloc[0], own["index"].iloc[0])
        found = (store.originals([place]).get(place) for store in stores)
        self.original = next((image for image in found if image is not None), None)

    def of(self, way: Way, defense: str) -> tuple[np.ndarray | None, str]:
        """The picture (C, H, W) and its SSIM; None and an empty text if there is none."""
        rows = self.rows[way.prefix]
        if defense not in rows.index or rows["key"][defense] not in self.traces:
            return None, ""
        trace = self.traces[str(rows["key"][defense])]
        return trace.reconstruction[0], f"{rows['ssim'][defense]:.2f}"


def _draw_panel(
    part: SubFigure,
    curves: Sequence[Curve],
    lines: pd.DataFrame,
    pictures: _Pictures,
    scale: Scale,
    first: bool,
) -> None:
    """SSIM above, and under each defense its pictures."""
    grid = part.add_gridspec(1 + 1 + len(WAYS), len(curves), height_ratios=(3.2, 1, *[1] * len(WAYS)))
    panel = part.add_subplot(grid[0, :])
    own = lines.loc[[curve.defense for curve in curves]]
    for way in WAYS:
        low, high = (own[f"{way.prefix}_{end}"] for end in ("low", "high"))
        middle = own[way.prefix]
        panel.errorbar(
            np.arange(len(own)) + way.aside, middle, yerr=np.nan_to_num([middle - low, high - middle]),
            label=way.name, color=way.colour, marker=way.marker, linewidth=0, elinewidth=0.9, markersize=5,
        )  # fmt: skip
    for threshold in (scale.leak, scale.artifacts):
        panel.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
    names = ["none" if curve.defense == BASELINE else curve.label.replace(" ", "\n", 1) for curve in curves]
    panel.set_xticks(range(len(curves)), names, fontsize=7)
    panel.set(xlim=(-0.5, len(curves) - 0.5), ylim=(-0.05, 1.05))
    panel.grid(axis="y", alpha=0.25)
    if first:
        panel.set_ylabel("median SSIM")
        panel.legend(fontsize=8, loc="lower left")
    rows = [[part.add_subplot(grid[1 + row, column]) for column in range(len(curves))] for row in range(3)]
    for each in (panel for row in rows for panel in row):
        clear(each)
    show_image(rows[0][0], pictures.original, "")
    for name, row in zip(("original", *(way.name for way in WAYS)), rows, strict=True):
        row[0].set_ylabel(name, fontsize=8)
    for way, row in zip(WAYS, rows[1:], strict=True):
        for place, curve in zip(row, curves, strict=True):
            image, ssim = pictures.of(way, curve.defense)
            show_image(place, image, "")
            place.set_xlabel(ssim, fontsize=7, labelpad=1)
