"""Figure 7 of the paper: how noise, half precision and pruning change the attack."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from leakbench.reports.figures.curves import pad
from leakbench.reports.paper.reference import Noise, Reading, Reported, Scope, recalled, reference
from leakbench.reports.pictures import clear, show_image
from leakbench.reports.selection import BASELINE, first_victim
from leakbench.reports.statistics import median_band
from leakbench.reports.style import caption, line_style, styles
from leakbench.sweeps.records import Curves, StoredTrace
from leakbench.sweeps.store import Store

PANELS = {  # of the paper's figure: title and kinds
    "(a) Gaussian noise": ("gaussian",),
    "(b) Laplacian noise": ("laplacian",),
    "(c) half precision": ("float16", "bfloat16"),
    "(d) pruning": ("prune",),
}
LABELS = ("match loss", "match loss (linear)", "image MSE (raw pixels)")
FIRST = 5  # the linear axis fits the curves from this step on: next to earlier ones they look flat
PICTURES = 4  # side by side


@dataclass(frozen=True)
class Curve:
    """One curve of a panel."""

    defense: str  # ours
    label: str  # the paper's
    verdicts: str


def verdict_table(summary: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """One line per defense of Figure 7 in a summary: the paper's verdict, ours, and whether they agree.

    Columns: label, paper, recalled, defense, images, leaked, ssim, ssim_low, ssim_high, ours, agrees.
    """
    summary = summary.set_index("defense")
    lines = []
    for reported in reference().figure7:
        name = reported.among(summary.index, reading)
        if name is not None:
            own = summary.loc[name]
            lines.append(
                {"label": reported.label, "paper": str(reported.verdict), "recalled": reported.recalled}
                | {"defense": name}
                | {key: own[key] for key in ("images", "leaked", "ssim", "ssim_low", "ssim_high")}
                | {"ours": own["verdict"], "agrees": own["verdict"] == reported.verdict}
            )
    return pd.DataFrame(lines)


def draw_figure7(store: Store, best: pd.DataFrame, verdicts: pd.DataFrame, reading: Reading) -> Figure:
    """The four panels of the paper, under one reading of it.

    Rows: match loss on a logarithmic and on a linear axis, the MSE of the raw image, the legend
    with the paper's verdict and ours, and the reconstructions of one image. A curve is the
    median over the images that leak undefended, with its bootstrap interval; faint, single images.

    Args:
        store: the run's store.
        best: `strongest` of its rows.
        verdicts: `verdict_table` for that reading.
        reading: what the paper's words are taken to mean.
    """
    best = best[best["attackable"]]
    if best.empty:
        figure = Figure(figsize=(6, 1))
        figure.text(0.5, 0.5, "no image leaks without a defense, so no defense can be judged", ha="center")
        return figure
    numbers, traces = store.curves(best["key"]), store.traces(first_victim(best)["key"])
    verdicts = verdicts.set_index("label")
    figure = Figure(figsize=(12, 10.6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.4, 1))[:, 0]
    axes = above.subplots(4, len(PANELS), height_ratios=(3, 3, 3, 1.9))
    places = below.subfigures(1, len(PANELS), squeeze=False)[0]
    for column, place, (title, kinds) in zip(axes.T, places, PANELS.items(), strict=True):
        curves = curves_of(kinds, list(best["defense"].unique()), reading, verdicts)
        column[0].set_title(f"{title}\n{meaning_of(kinds[0], reading)}", fontsize=10)
        _draw_panel(column, curves, best, numbers)
        _draw_pictures(place, curves, store, best, traces)
    for row, label in zip(axes, LABELS, strict=False):
        row[0].set_ylabel(label)
    for row in (axes[0], axes[2]):
        _share_limits(row)
    text = f"{caption(best)}; lines: medians with their 95 % intervals, faint: single images; pictures: SSIM"
    figure.suptitle(text, fontsize=9)
    return figure


def meaning_of(kind: str, reading: Reading) -> str:
    """What a panel shows under a reading."""
    if kind == "prune":
        return "the smallest of " + ("each tensor" if reading.scope == Scope.TENSOR else "the whole gradient")
    name = {Noise.VARIANCE: "variance", Noise.STD: "standard deviation"}[reading.noise]
    return f"10$^{{-k}}$ is the {name}" if kind in ("gaussian", "laplacian") else ""


def curves_of(
    kinds: Sequence[str], names: Sequence[str], reading: Reading, verdicts: pd.DataFrame | None = None
) -> list[Curve]:
    """The undefended attack and the defenses of those kinds, as the paper orders them."""
    found = [Curve(BASELINE, "original", "")]
    for reported in reference().figure7:
        name = reported.among(names, reading)
        if reported.kind in kinds and name is not None:
            text = "" if verdicts is None else _both(reported, verdicts)
            found.append(Curve(name, reported.label, text))
    return found


def _both(reported: Reported, verdicts: pd.DataFrame) -> str:
    ours = str(verdicts["ours"][reported.label])
    return f"paper: {recalled(str(reported.verdict), reported.recalled)}, here: {ours}"


def _draw_panel(
    axes: np.ndarray, curves: Sequence[Curve], best: pd.DataFrame, numbers: dict[str, Curves]
) -> None:
    """Match loss on both axes, image MSE, and the legend under them."""
    known = styles(best)
    handles: list[Line2D] = []
    tops = [0.0]
    for curve in curves:
        style = line_style(*known[curve.defense])
        keys = best.loc[best["defense"] == curve.defense, "key"]
        for quantity, panels in (("objective", axes[:2]), ("errors", axes[2:3])):
            values = pad([getattr(numbers[key], quantity) for key in keys if key in numbers])
            low, high = median_band(values)
            for panel in panels:
                _draw_faint(panel, values, style["color"])
                panel.fill_between(range(len(low)), low, high, color=style["color"], alpha=0.2, linewidth=0)
                (line,) = panel.plot(np.median(values, axis=0), linewidth=1.5, **style)
            if quantity == "objective":
                tops.append(float(high[min(FIRST, len(high) - 1)]))
        handles.append(line)
    axes[1].set_ylim(0, 1.1 * max(tops))
    for panel in (axes[0], axes[2]):
        panel.set_yscale("log")
    for panel in axes[:3]:
        panel.grid(alpha=0.25)
    axes[2].set_xlabel("iteration (outer step of L-BFGS)")
    _draw_legend(axes[3], handles, curves)


def _draw_faint(panel: Axes, values: np.ndarray, color: Any) -> None:
    """Single curves; one that diverges does not set the range of the axis."""
    lines = [np.column_stack([range(len(each)), each]) for each in values]
    panel.add_collection(LineCollection(lines, colors=[color], alpha=0.15, linewidths=0.4), autolim=False)


def _draw_legend(panel: Axes, handles: list[Line2D], curves: Sequence[Curve]) -> None:
    panel.axis("off")
    labels = [f"{curve.label}\n{curve.verdicts}" if curve.verdicts else curve.label for curve in curves]
    panel.legend(handles, labels, loc="upper center", fontsize=7, frameon=False, labelspacing=0.35)


def _share_limits(panels: Iterable[Axes]) -> None:
    bottoms, tops = zip(*(panel.get_ylim() for panel in panels), strict=True)
    for panel in panels:
        panel.set_ylim(min(bottoms), max(tops))


def _draw_pictures(
    place: SubFigure,
    curves: Sequence[Curve],
    store: Store,
    best: pd.DataFrame,
    traces: dict[str, StoredTrace],
) -> None:
    """The first image that counts and its reconstruction for each curve, with SSIM."""
    panels = place.subplots(2, PICTURES)
    for panel in panels.flat:
        clear(panel)
    own = first_victim(best).set_index("defense")
    first = (own["dataset"].iloc[0], own["index"].iloc[0])
    show_image(panels.flat[0], store.originals([first]).get(first), "original\n")
    for panel, curve in zip(panels.flat[1:], curves, strict=False):
        if curve.defense in own.index:
            key, ssim = str(own["key"][curve.defense]), own["ssim"][curve.defense]
            name, _, level = ("undefended" if curve.defense == BASELINE else curve.label).partition(" ")
            trace = traces.get(key)
            show_image(panel, trace.reconstruction[0] if trace else None, f"{name}\n{level}")
            panel.set_xlabel(f"{ssim:.2f}", fontsize=7, labelpad=1)
