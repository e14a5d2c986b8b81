"""Layer by layer: how a dummy's gradient nears the shared one, and how far off each layer's input is."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakbench.reports.names import defense_order
from leakbench.reports.selection import BASELINE
from leakbench.reports.style import HUES, LINES, caption, line_style, styles
from leakbench.sweeps.store import Store


def draw_distances(store: Store, best: pd.DataFrame) -> Figure | None:
    """The squared distance of each layer's gradient over the steps, without a defense: median over images.

    As Zhu et al. 2019 draw it in their figure of the layers; a layer's weights and bias count together.
    None where nothing was kept of it: of attacks that optimise no labels, or without snapshots.

    Args:
        store: of the run.
        best: of one attack, the start of lowest objective for each image.
    """
    own = best[best["defense"] == BASELINE]
    found = [trace.distances for trace in store.traces(own["key"]).values() if trace.distances]
    if not found:
        return None
    curves: dict[str, list[pd.Series]] = {}
    for distances in found:
        whole = (
            pd.DataFrame(distances).T.groupby(lambda name: name.rpartition(".")[0] or name, sort=False).sum()
        )
        for layer, curve in whole.iterrows():
            curves.setdefault(str(layer), []).append(curve)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for (layer, own_curves), hue, dashes in zip(curves.items(), cycle(HUES), cycle(LINES), strict=False):
        median = pd.DataFrame(own_curves).sort_index(axis=1).ffill(axis=1).median()  # ended early: as it was
        panel.plot(median.index, median, color=hue, linestyle=dashes, marker=".", label=layer)
    panel.set(yscale="log", xlabel="outer step of the attack", ylabel="squared distance of the gradient")
    panel.grid(alpha=0.25)
    panel.legend(title="layer, from the image on", fontsize=7, title_fontsize=7, frameon=False)
    figure.suptitle(f"{caption(own)}, median; no defense", fontsize=9)
    return figure


def draw_input_errors(store: Store, best: pd.DataFrame) -> Figure | None:
    """The relative error of each layer's input, from the last layer on; a line a defense, median over images.

    None where the attack goes through no layers.

    Args:
        store: of the run.
        best: of one attack, the start of lowest objective for each image.
    """
    traces = store.traces(best["key"])
    known = styles(best)
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    panel = figure.subplots()
    layers: list[str] = []
    for defense in defense_order(best):
        keys = best.loc[best["defense"] == defense, "key"]
        errors = [traces[key].input_errors for key in keys if key in traces and traces[key].input_errors]
        if errors:
            median = pd.DataFrame(errors).median()
            layers = list(median.index)
            style = line_style(*known[defense])
            panel.plot(np.arange(len(median)), median, marker="o", markersize=3, label=defense, **style)
    if not layers:
        return None
    panel.set(
        yscale="log", xlabel="layer, from the last one to the image", ylabel="relative error of its input"
    )
    panel.set_xticks(range(len(layers)), layers)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{caption(best)}, median", fontsize=9)
    return figure
