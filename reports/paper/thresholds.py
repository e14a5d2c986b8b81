"""Pictures on both sides of the thresholds for a leak and for artifacts."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.verdicts import Scale
from leakbench.reports.pictures import clear, show_image
from leakbench.sweeps.store import Store

DISTANCES = (-0.15, -0.1, -0.06, -0.03, -0.01, 0.01, 0.03, 0.06, 0.09)  # from a threshold, in SSIM


def draw_thresholds(store: Store, best: pd.DataFrame, scale: Scale) -> Figure:
    """For each threshold originals above, reconstructions of rising SSIM below, under any defense."""
    figure = Figure(figsize=(1.15 * len(DISTANCES), 6.4), layout="constrained")
    parts = figure.subfigures(2, 1, squeeze=False)[:, 0]
    thresholds = {"leak": scale.leak, "artifacts": scale.artifacts}
    for part, (name, threshold) in zip(parts, thresholds.items(), strict=True):
        chosen = nearest(best, threshold)
        traces = store.traces(chosen["key"])
        originals = store.originals(zip(chosen["dataset"], chosen["index"], strict=True))
        panels = part.subplots(2, len(DISTANCES), squeeze=False)
        for panel in panels.flat:
            clear(panel)
        for column, (_, row) in zip(panels.T, chosen.iterrows(), strict=False):
            trace = traces.get(row["key"])
            original = originals.get((row["dataset"], row["index"]))
            show_image(column[0], original, f"image {row['index']}")
            show_image(column[1], trace.reconstruction[0] if trace else None, "")
            column[1].set_xlabel(f"{row['ssim']:.3f}", fontsize=8, labelpad=2)
            column[1].xaxis.label.set_fontweight("bold" if row["ssim"] >= threshold else "normal")
        part.suptitle(f"{name}: SSIM >= {threshold:g} (bold)", fontsize=9)
    return figure


def nearest(best: pd.DataFrame, threshold: float, distances: Sequence[float] = DISTANCES) -> pd.DataFrame:
    """The rows whose SSIM is nearest to each distance from the threshold, each once, by SSIM."""
    left = best
    for distance in distances:
        if len(left):
            found = (left["ssim"] - threshold - distance).abs().idxmin()
            left = left.drop(index=found)
    return best.loc[best.index.difference(left.index)].sort_values("ssim", kind="stable")
