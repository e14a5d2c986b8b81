"""SSIM and labels against a number in the protocol: a figure of the whole run."""

from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.reports.style import HUES

CAPTION = "What attacks get of undefended updates, against {setting} of the protocol"
WIDE = 8  # times: from there on, an axis is logarithmic


def draw_along(setting: str, lines: pd.DataFrame, modality: Modality = IMAGES) -> Figure:
    """The median score above, the share of labels that were recovered below, with intervals of 95 %.

    Args:
        setting: of the protocols, on the horizontal axis.
        lines: see `along_protocols`.
        modality: of what was attacked.
    """
    panels = list(lines["panel"].unique())
    figure = Figure(figsize=(1 + 2.4 * len(panels), 5), layout="constrained")
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    looks = dict(zip(lines["attack"].unique(), zip(HUES * 2, cycle("os^DvP"), strict=False), strict=False))
    for column, panel in zip(grid.T, panels, strict=True):
        own = lines[lines["panel"] == panel]
        column[0].set_title(panel, fontsize=8)
        for axes, score in zip(column, (modality.leading, "recall"), strict=True):
            for attack, part in own.sort_values("value").groupby("attack", sort=False):
                hue, mark = looks[attack]
                sides = part[score] - part[f"{score}_low"], part[f"{score}_high"] - part[score]
                axes.errorbar(
                    part["value"], part[score], pd.DataFrame(sides).fillna(0).to_numpy(),
                    color=hue, marker=mark, markersize=5, linewidth=1, elinewidth=0.8, label=attack,
                )  # fmt: skip
            if own["value"].min() > 0 and own["value"].max() >= WIDE * own["value"].min():
                axes.set_xscale("log", base=2)
            axes.set_xticks(
                sorted(lines["value"].unique()), [f"{v:g}" for v in sorted(lines["value"].unique())]
            )
            axes.minorticks_off()
            axes.grid(alpha=0.25)
            axes.set_ylim(-0.05, 1.05)
        column[1].set_xlabel(setting.replace("_", " "))
    grid[0, 0].set_ylabel(f"median {modality.title}")
    grid[1, 0].set_ylabel("labels recovered")
    attacks = "" if len(looks) > 1 else f" · {next(iter(looks))}"
    if not attacks:
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
        )
    count = int(lines["images"].min())
    more = "" if count == lines["images"].max() else " or more"
    figure.suptitle(f"undefended{attacks} · n = {count}{more}", fontsize=9)
    return figure
