"""Layer by layer: how a dummy's gradient approaches the shared one."""

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.reports.figures.kind import Kind, Numbers, each_attack
from leakbench.reports.selection import BASELINE
from leakbench.reports.style import HUES, LINES, caption


def draw_distances(best: pd.DataFrame, curves: Numbers, modality: Modality = IMAGES) -> Figure | None:
    """The squared distance of each layer's gradient over the steps, without a defense: median over images.

    As in the per-layer figure of Zhu et al. 2019; a layer's weights and bias count together.
    None if no distances were kept: for attacks that optimise no labels, or without snapshots.

    Args:
        best: for one attack, the start of lowest objective for each image.
        curves: the curves of these starts.
        modality: of what was attacked.
    """
    own = best[best["defense"] == BASELINE]
    found = [curves[key].distances for key in own["key"] if key in curves and curves[key].distances]
    if not found:
        return None
    by_layer: dict[str, list[pd.Series]] = {}
    for distances in found:
        whole = (
            pd.DataFrame(distances).T.groupby(lambda name: name.rpartition(".")[0] or name, sort=False).sum()
        )
        for layer, curve in whole.iterrows():
            by_layer.setdefault(str(layer), []).append(curve)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for (layer, own_curves), hue, dashes in zip(by_layer.items(), cycle(HUES), cycle(LINES), strict=False):
        median = pd.DataFrame(own_curves).sort_index(axis=1).ffill(axis=1).median()  # ended early: last value
        panel.plot(median.index, median, color=hue, linestyle=dashes, marker=".", label=layer)
    panel.set(yscale="log", xlabel="outer step of the attack", ylabel="squared distance of the gradient")
    panel.grid(alpha=0.25)
    panel.legend(title=f"layer, from the {modality.one} on", fontsize=7, title_fontsize=7, frameon=False)
    figure.suptitle(f"{caption(own, modality)}, median; no defense", fontsize=9)
    return figure


KIND = Kind(
    30,
    "distances",
    "How each layer's gradient approaches the shared one, without a defense",
    each_attack(draw_distances),
)
