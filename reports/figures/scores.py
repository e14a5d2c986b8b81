"""Every score of every image, by defense."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from leakbench.bench.verdicts import Scale
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.run import Run
from leakbench.reports.selection import counted
from leakbench.reports.setting import Setting
from leakbench.reports.style import caption, make_log, marker_style, styles, write_above

CROWDED = 50  # images


def draw_scores(best: pd.DataFrame, scale: Scale) -> Figure:
    """The scores of `Modality.medians`: one point per image, bars at the median of those that count.

    Hollow points are images that the attack does not rebuild without a defense either: they say
    nothing about the defense. An infinite PSNR (identical images) has no place on its axis.
    """
    order, scores = defense_order(best), scale.modality.medians
    figure = Figure(figsize=(10, 1.2 + 0.34 * len(order)))
    panels = figure.subplots(1, len(scores), sharey=True, gridspec_kw={"wspace": 0.08})
    looks = {defense: marker_style(*about) for defense, about in styles(best).items()}
    title, best = caption(best, scale.modality), best[["key", "defense", "attackable", "score", *scores]]
    for panel, (score, label) in zip(panels, scores.items(), strict=True):
        if score == "mse":
            make_log(panel, "x")
        _make_room(panel, best.loc[np.isfinite(best[score]), score])
        finite = best[np.isfinite(best[score])]
        crowded = finite.groupby("defense")["key"].transform("size") > CROWDED
        _swarm(panel, finite[~crowded], score, order, looks)
        for defense, own in finite[crowded].groupby("defense"):
            _scatter(panel, own, score, order.index(str(defense)), looks[str(defense)])
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(len(order) - 0.5, -0.5)
        medians = counted(best).groupby("defense")[score].median().reindex(order).dropna()
        panel.scatter(
            medians, [order.index(name) for name in medians.index], marker="|", s=240, color="black", zorder=5
        )
        panel.set(xlabel=label, ylabel="")
        panel.grid(axis="x", alpha=0.25)
    for threshold, name in ((scale.leak, "leak"), (scale.artifacts, "artifacts")):
        panels[0].axvline(threshold, color="black", linewidth=0.8, linestyle=":")
        panels[0].annotate(name, (threshold, 1.01), xycoords=("data", "axes fraction"), fontsize=7, ha="left")
    write_above(figure, title)
    return figure


def _swarm(
    panel: Axes, own: pd.DataFrame, score: str, order: list[str], looks: dict[str, dict[str, Any]]
) -> None:
    """Points next to each other; all defenses at once: each call of seaborn takes a tenth of a second."""
    if own.empty:
        return
    sns.swarmplot(
        own, x=score, y="defense", order=order, color="white", ax=panel, linewidth=0.8, size=4, warn_thresh=1
    )
    for points in panel.collections:
        places = np.asarray(points.get_offsets())
        if len(places):
            defense = order[round(float(places[0, 1]))]
            look = looks[defense]
            marker = MarkerStyle(look["marker"])
            points.set_paths([marker.get_path().transformed(marker.get_transform())])
            points.set_edgecolor(look["color"])
            points.set_facecolor(_faces(own[own["defense"] == defense], look))


def _faces(own: pd.DataFrame, look: dict[str, Any]) -> list[Any]:
    return [look["color"] if attackable else "white" for attackable in own["attackable"]]


def _scatter(panel: Axes, own: pd.DataFrame, score: str, place: int, style: dict[str, Any]) -> None:
    """Many points, at random heights: a swarm of them takes minutes to lay out."""
    heights = place + np.random.default_rng(0).uniform(-0.35, 0.35, len(own))
    panel.scatter(
        own[score],
        heights,
        c=_faces(own, style),
        marker=style["marker"],
        s=6,
        edgecolors=[style["color"]],
        linewidth=0.4,
    )


def _make_room(panel: Axes, values: pd.Series) -> None:
    """Fix the axis beforehand: how points are placed depends on their width on it."""
    if values.name == "psnr":
        if len(values):
            panel.set_xlim(values.min() - 1, values.max() + 1)
    elif values.name == "mse":
        if (values > 0).any():
            panel.set_xlim(values[values > 0].min() / 1.5, values.max() * 1.5)
    else:  # at most 1
        panel.set_xlim(-0.1, 1.05)


def _draw(_run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    if len(setting.best):
        yield "", draw_scores(shortened(setting.best), setting.scale)


KIND = Kind(10, "scores", "SSIM, PSNR and MSE of every image, by defense", _draw)
