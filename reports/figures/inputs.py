"""Layer by layer: how far off each layer's input is."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.reports.figures.kind import Kind, Numbers, each_attack
from leakbench.reports.names import defense_order
from leakbench.reports.style import caption, line_style, styles


def draw_input_errors(best: pd.DataFrame, curves: Numbers, modality: Modality = IMAGES) -> Figure | None:
    """The relative error of each layer's input, last layer first; one line per defense, median over images.

    None if the attack does not go layer by layer.

    Args:
        best: for one attack, the start of lowest objective for each image.
        curves: the curves of these starts.
        modality: of what was attacked.
    """
    found = {key: curves[key].input_errors for key in best["key"] if key in curves}
    if not any(found.values()):
        return None
    known = styles(best)
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    panel = figure.subplots()
    layers: list[str] = []
    for defense in defense_order(best):
        keys = best.loc[best["defense"] == defense, "key"]
        errors = [found[key] for key in keys if found.get(key)]
        if errors:
            median = pd.DataFrame(errors).median()
            layers = list(median.index)
            style = line_style(*known[defense])
            panel.plot(np.arange(len(median)), median, marker="o", markersize=3, label=defense, **style)
    panel.set(
        yscale="log",
        xlabel=f"layer, from the last one to the {modality.one}",
        ylabel="relative error of its input",
    )
    panel.set_xticks(range(len(layers)), layers)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"{caption(best, modality)}, median", fontsize=9)
    return figure


KIND = Kind(
    31,
    "inputs",
    "Relative error of each layer's input, from the last layer to the image",
    each_attack(draw_input_errors),
)
