"""Leakage against the security index: a figure of the whole run."""

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from leakbench.reports.index import correlations
from leakbench.reports.style import HUES

CAPTION = "Median SSIM of the strongest attack against the security index, one point per network of this run"


def draw_against(lines: pd.DataFrame) -> Figure:
    """SSIM of the strongest attack against the index and against the condition, one point per network."""
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for (defense, own), hue, mark in zip(
        lines.groupby("defense", sort=False), cycle(["black", *HUES]), cycle("os^DvP")
    ):
        style = {"color": hue, "marker": mark, "linestyle": "none", "alpha": 0.75, "label": str(defense)}
        left.plot(own["value"], own["ssim"], **style)
        right.plot(own["condition"], own["ssim"], **style)
    left.set_xscale("symlog", linthresh=10)
    left.set(
        xlabel="c(M): 0 is the least secure", ylabel="median SSIM of the strongest attack", ylim=(-0.05, 1.05)
    )
    right.set_xscale("log")
    right.set(xlabel="condition (product over all layers)")
    for panel in (left, right):
        panel.grid(alpha=0.25)
    left.legend(fontsize=7, frameon=False)
    figure.suptitle("\n".join(correlations(lines)), fontsize=8)
    return figure
