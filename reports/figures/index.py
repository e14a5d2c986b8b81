"""The share of each layer's input that no equation determines: a figure."""

from collections.abc import Iterator
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.index import NETWORK, short_networks
from leakbench.reports.run import Run
from leakbench.reports.setting import Setting
from leakbench.reports.style import HUES, LINES
from leakbench.sweeps.indices import as_index


def draw_index(rows: pd.DataFrame) -> Figure:
    """The share of each layer's input that no equation determines, from the image on; one line per index."""
    groups = list(short_networks(rows).groupby([*NETWORK, "equations"], sort=False))
    figure = Figure(figsize=(7.2, 0.8 + 3.4 + 0.16 * len(groups)), layout="constrained")
    panel = figure.subplots()
    several = len({key[:-1] for key, _ in groups}) > 1
    for (key, part), hue, dashes in zip(groups, cycle(HUES), cycle(LINES), strict=False):
        own = part[part["key"] == part["key"].iloc[0]]
        where = f"{key[NETWORK.index('model')]} · " if several else ""
        value = as_index(own).value
        label = f"{where}{', '.join(part['defense'].unique())}: c(M) = {value:,.0f}"
        missing = 100 * (1 - own["rank"] / own["unknowns"])
        panel.plot(own["layer"], missing, color=hue, linestyle=dashes, marker="o", markersize=4, label=label)
    panel.set(
        xlabel="layer, from the image on", ylabel="input that no equation determines (%)", ylim=(-3, 103)
    )
    panel.set_xticks(sorted(rows["layer"].unique()))
    panel.grid(alpha=0.25)
    panel.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _draw(run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    """The networks that were attacked in this setting."""
    first = setting.rows.iloc[0]
    same = (run.indices["dataset"] == first["dataset"]) & (run.indices["model"] == first["model"])
    if same.any():
        yield "", draw_index(run.indices[same])


KIND = Kind(50, "index", "Security index: the share of each layer's input that no equation determines", _draw)
