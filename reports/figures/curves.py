"""Objective and image error over the steps of the attack, one panel per family."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.reports.figures.kind import Kind, Numbers, each_attack
from leakbench.reports.names import defense_order
from leakbench.reports.selection import BASELINE
from leakbench.reports.style import caption, line_style, make_log, styles, write_above

QUANTITIES = ("objective", "errors")  # of `Curves`


def draw_curves(best: pd.DataFrame, curves: Numbers, modality: Modality = IMAGES) -> Figure:
    """Each trial faint, the median over images strong; the objective above, the error below.

    The error is the MSE of images, and the share of wrong tokens of texts.
    `best` has the start that one attack keeps of each image. The curve of a trial that ended early is
    continued by its last value. The match loss is taken against the defended gradient,
    so under noise it does not fall to 0 and says little about the image: hence the second row.
    """
    family_of = dict(zip(best["defense"], best["family"], strict=True))
    members: dict[str, list[str]] = {}
    for defense in defense_order(best):
        members.setdefault(family_of[defense], []).append(defense)
    families = [family for family in members if family != BASELINE] or [BASELINE]
    figure = Figure(figsize=(1 + 2.6 * len(families), 6.2))
    panels = figure.subplots(
        2,
        len(families),
        sharex=True,
        sharey="row",
        squeeze=False,
        gridspec_kw={"hspace": 0.06, "wspace": 0.06},
    )
    for column, family in zip(panels.T, families, strict=True):
        for panel, quantity in zip(column, QUANTITIES, strict=True):
            _draw_family(panel, best, curves, members, family, quantity)
        column[0].set_title(family, fontsize=10)
        column[1].set_xlabel("outer step of the attack")
        handles, labels = column[0].get_legend_handles_labels()
        column[1].legend(
            handles, labels, fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22)
        )
    write_above(figure, caption(best, modality))
    panels[0, 0].set_ylabel("objective (for dlg: the match loss)")
    panels[1, 0].set_ylabel(modality.error)
    make_log(panels[0, 0], "y")
    if modality is IMAGES:
        make_log(panels[1, 0], "y")
    else:  # shares
        panels[1, 0].set_ylim(-0.05, 1.05)
    return figure


def _draw_family(
    panel: Axes,
    best: pd.DataFrame,
    curves: Numbers,
    members: dict[str, list[str]],
    family: str,
    quantity: str,
) -> None:
    known = styles(best)
    for defense in dict.fromkeys([BASELINE, *members[family]]):
        if defense not in known:
            continue  # not attacked again: its victims had leaked to another attack
        style = line_style(*known[defense])
        keys = best.loc[best["defense"] == defense, "key"]
        drawn = pad([getattr(curves[key], quantity) for key in keys if key in curves])
        if len(drawn):
            lines = [np.column_stack([range(len(each)), each]) for each in drawn]
            panel.add_collection(LineCollection(lines, alpha=0.25, linewidths=0.6, **style))
            panel.plot(np.median(drawn, axis=0), label=defense, linewidth=1.6, **style)
    panel.grid(alpha=0.25)


def pad(curves: list[np.ndarray]) -> np.ndarray:
    """(N, longest): curves of different lengths, each continued by its last value; without empty ones.

    The curve of an attack without steps, such as one in closed form, is empty.
    """
    drawn = [curve for curve in curves if len(curve)]
    longest = max(map(len, drawn), default=0)
    return np.array([np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in drawn])


KIND = Kind(
    20,
    "curves",
    "Match loss and image error over the steps of the attack, by family",
    each_attack(draw_curves),
)
