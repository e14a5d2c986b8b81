"""Every score of every image, by defense."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from leakbench.bench.verdicts import Scale
from leakbench.reports.names import defense_order
from leakbench.reports.selection import counted
from leakbench.reports.style import caption, marker_style, styles

CROWDED = 50  # images
SCORES = {"ssim": "SSIM", "psnr": "PSNR [dB]", "mse": "MSE (clipped pixels)"}


def draw_scores(best: pd.DataFrame, scale: Scale) -> Figure:
    """SSIM, PSNR and MSE of the reconstructions: a point an image, a bar at the median of those that count.

    Hollow points are images that the attack does not rebuild without a defense either: they say
    nothing of the defense. An infinite PSNR (identical images) has no place on its axis.
    """
    order = defense_order(best)
    figure = Figure(figsize=(10, 1.2 + 0.34 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(SCORES), sharey=True)
    for panel, (score, label) in zip(panels, SCORES.items(), strict=True):
        if score == "mse":
            panel.set_xscale("log")
        _make_room(panel, best.loc[np.isfinite(best[score]), score])
        for defense, about in styles(best).items():
            style = marker_style(*about)
            own = best[np.isfinite(best[score]) & (best["defense"] == defense)]
            if len(own) > CROWDED:
                _scatter(panel, own, score, order.index(defense), style)
                continue
            sns.swarmplot(
                own, x=score, y="defense", order=order, hue="attackable", legend=False,
                palette={True: style["color"], False: "white"}, marker=style["marker"],
                ax=panel, edgecolor=style["color"], linewidth=0.8, size=4, warn_thresh=1,
            )  # fmt: skip
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(len(order) - 0.5, -0.5)
        medians = counted(best).groupby("defense")[score].median().reindex(order)
        panel.scatter(medians, range(len(order)), marker="|", s=240, color="black", zorder=5)
        panel.set(xlabel=label, ylabel="")
        panel.grid(axis="x", alpha=0.25)
    for threshold, name in ((scale.leak, "leak"), (scale.artifacts, "artifacts")):
        panels[0].axvline(threshold, color="black", linewidth=0.8, linestyle=":")
        panels[0].annotate(name, (threshold, 1.01), xycoords=("data", "axes fraction"), fontsize=7, ha="left")
    figure.suptitle(caption(best), fontsize=9)
    return figure


def _scatter(panel: Axes, own: pd.DataFrame, score: str, place: int, style: dict[str, Any]) -> None:
    """Many points, at random heights: a swarm of them takes minutes to be laid out."""
    heights = place + np.random.default_rng(0).uniform(-0.35, 0.35, len(own))
    faces = [style["color"] if attackable else "white" for attackable in own["attackable"]]
    panel.scatter(
        own[score], heights, c=faces, marker=style["marker"], s=6, edgecolors=[style["color"]], linewidth=0.4
    )


def _make_room(panel: Axes, values: pd.Series) -> None:
    """Fix the axis beforehand: points are put beside each other by how wide they are in it."""
    if values.name == "ssim":
        panel.set_xlim(-0.1, 1.05)
    elif len(values) and values.name == "psnr":
        panel.set_xlim(values.min() - 1, values.max() + 1)
    elif (values > 0).any():
        panel.set_xlim(values[values > 0].min() / 1.5, values.max() * 1.5)
