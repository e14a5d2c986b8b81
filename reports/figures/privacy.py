"""What leaks, and how well a model trains, against the epsilon of its training."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.privacy import DELTA
from leakbench.bench.verdicts import Scale
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.names import shortened
from leakbench.reports.run import Run
from leakbench.reports.selection import BASELINE
from leakbench.reports.setting import Setting
from leakbench.reports.style import make_log, marker_style, styles

FEWEST_POINTS = 2  # points: one alone shows no course


def draw_privacy(lines: pd.DataFrame, scale: Scale) -> Figure:
    """One point per private defense with its intervals; dashed: without a defense.

    Args:
        lines: a line per defense of one setting, with the columns of `summarize` and of `summarize_utility`;
            those without a finite epsilon are skipped.
        scale: what counts as a leak.
    """
    points = _private(lines, scale)
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = figure.subplots(2, sharex=True)
    known = styles(points)
    for line in points.to_dict("records"):
        style = marker_style(*known[line["defense"]])
        for panel, name, factor in zip(panels, (scale.column, "accuracy"), (1, 100), strict=True):
            low, value, high = (factor * line[f"{name}{end}"] for end in ("_low", "", "_high"))
            sides = np.nan_to_num([[value - low], [high - value]])
            panel.errorbar(
                line["epsilon"], value, sides, linestyle="", elinewidth=0.7, markersize=6,
                label=line["defense"] if name == scale.column else None, **style,
            )  # fmt: skip
    baseline = lines[lines["defense"] == BASELINE]
    for panel, values in zip(panels, (baseline[scale.column], 100 * baseline["accuracy"]), strict=True):
        for value in values:
            panel.axhline(value, color="black", linewidth=0.8, linestyle="--")
    for threshold in (scale.leak, scale.artifacts):
        panels[0].axhline(threshold, color="0.6", linewidth=0.8, linestyle=":")
    make_log(panels[0], "x")
    panels[0].set(ylabel=f"median {scale.title}", ylim=(-0.05, 1.05))
    panels[1].set(
        xlabel=f"epsilon of the training, per example, at delta = {DELTA:g}",
        ylabel="accuracy in training [%]", ylim=(0, 100),
    )  # fmt: skip
    for panel in panels:
        panel.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    figure.suptitle(
        "further left promises more; dashed: without a defense; dotted: leak, artifacts", fontsize=9
    )
    return figure


def _private(lines: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    return lines[lines["epsilon"].lt(np.inf) & lines[scale.column].notna()].sort_values("epsilon")


def _draw(_run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    """A figure if trainings with several values of epsilon were attacked."""
    if (
        len(setting.trainings)
        and _private(setting.board, setting.scale)["epsilon"].nunique() >= FEWEST_POINTS
    ):
        yield "", draw_privacy(shortened(setting.board), setting.scale)


KIND = Kind(
    1,
    "privacy",
    "Median SSIM of the reconstructions, and accuracy, against the epsilon of the training",
    _draw,
)
