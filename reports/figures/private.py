"""What precision costs shared inference: accuracy, and the error of the class scores."""

from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from leakbench.reports.names import short_names
from leakbench.reports.style import HUES


def draw_private(rows: pd.DataFrame) -> Figure:
    """Accuracy and the largest error of a score over the precision, a line for each network and engine.

    Args:
        rows: see `bench/private/rows.py: row`.
    """
    lines = rows.assign(
        place=rows["digits"] * np.log10(rows["base"].astype(float)),
        accuracy=100 * rows["accuracy"],
        model=rows["model"].map(short_names(rows["model"])),
    ).sort_values("place", kind="stable")
    hues = dict(zip(lines["model"].unique(), cycle(HUES), strict=False))
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for panel, column in ((left, "accuracy"), (right, "logit_error")):
        sns.lineplot(
            lines, x="place", y=column, hue="model", palette=hues, style="engine", markers=True,
            errorbar=None, ax=panel, legend=panel is left,
        )  # fmt: skip
        panel.grid(alpha=0.25)
        panel.set_xlabel("precision: decimal digits of the step")
    for model, own in lines.groupby("model", sort=False):
        left.axhline(100 * own["plain_accuracy"].iloc[0], color=hues[model], linewidth=0.8, linestyle=":")
    left.set_ylabel("accuracy [%]; dotted: in the clear")
    right.set_yscale("log")
    right.set_ylabel("largest error of a class score")
    left.legend(fontsize=7, frameon=False)
    return figure
