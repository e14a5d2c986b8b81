"""Security indices: tables, what they mean in words, and figures."""

from collections.abc import Iterator
from itertools import cycle
from math import isnan

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from leakbench.bench.index import ModelIndex
from leakbench.bench.spectrum import SEEN
from leakbench.bench.verdicts import Scale
from leakbench.reports.names import defense_order, short_names
from leakbench.reports.selection import strongest
from leakbench.reports.statistics import Correlation, rank_correlation
from leakbench.reports.style import HUES, LINES
from leakbench.reports.terminal import plain_table, put_below
from leakbench.sweeps.indices import as_index

NETWORK = ["dataset", "index", "model", "model_seed"]
FEWEST = 4  # networks of which a correlation is told


def index_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table a network and image, and below each what it means; defenses that keep the same share one."""
    for (dataset, index, model, seed, _), part in _shortened(rows).groupby(
        [*NETWORK, "equations"], sort=False
    ):
        weights = f", weights {seed}" if seed else ""
        defenses = ", ".join(part["defense"].unique())
        title = f"{model}{weights} · {dataset} {index} · {defenses}"
        table = plain_table(title, ("unknowns", "equations", "left", "rank", "missing", "condition"), "layer")
        found = as_index(part[part["key"] == part["key"].iloc[0]])
        for layer in found.layers:
            rough = "" if layer.error is None else "~"
            table.add_row(
                layer.name,
                f"{layer.unknowns:,}",
                f"{layer.all_rows:,}",
                f"{layer.weight_rows + layer.gradient_rows:,}",
                f"{rough}{layer.rank:,.0f}",
                f"{rough}{layer.missing:,.0f}",
                f"{'>' if rough else ''}{layer.condition:,.3g}",
            )
        put_below(table, f"{in_words(found)}\n")
        yield table


def _shortened(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with models and defenses as tables show them."""
    return rows.assign(**{name: rows[name].map(short_names(rows[name])) for name in ("model", "defense")})


def in_words(found: ModelIndex) -> str:
    """c(M), and what it says."""
    if found.is_exact and found.value == 0:
        return (
            "c(M) = 0, the least secure: every layer's equations determine its input, and so an exact\n"
            f"gradient the image; an error of it may grow {found.condition:.2g} times on the way to the image"
        )
    text = f"c(M) = {found.value:,.0f}"
    if found.is_exact:
        return (
            f"{text}: so many numbers no equation determines, those of layer i of d counted (d - i + 1) / d"
            " times;\n0 is the least secure, and the further below it, the less of the image a gradient tells"
        )
    return (
        f"{text} ± {found.error:,.0f}, or nearer to 0, which is the least secure: ranks of large layers (~)\n"
        f"are estimates, and take for lost what is below {SEEN:.0%} of a layer's largest singular value"
    )


def draw_index(rows: pd.DataFrame) -> Figure:
    """The share of each layer's input that no equation determines, from the image on; a line an index."""
    groups = list(_shortened(rows).groupby([*NETWORK, "equations"], sort=False))
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


def index_and_leakage(rows: pd.DataFrame, trials: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One line a network that was attacked and whose index is known, under each defense that both have.

    Columns: dataset, model, model_seed, defense, `value` (c(M)), `condition` (the product of its layers'),
    `ssim` (the median of what the strongest attack got), `images`.
    """
    if trials.empty or rows.empty:
        return pd.DataFrame()
    best = strongest(trials, scale).groupby(["dataset", "model", "model_seed", "defense"], sort=False)
    leaked = best["ssim"].agg(ssim="median", images="size").reset_index()
    lines = []
    for (_, dataset, model, seed, defense), own in rows.groupby(
        ["key", "dataset", "model", "model_seed", "defense"], sort=False
    ):
        found = as_index(own)
        lines.append(
            {
                "dataset": dataset, "model": model, "model_seed": seed, "defense": defense,
                "value": found.value, "condition": found.condition,
            }
        )  # fmt: skip
    both: pd.DataFrame = leaked.merge(pd.DataFrame(lines), on=["dataset", "model", "model_seed", "defense"])
    places = {defense: place for place, defense in enumerate(defense_order(trials))}
    return both.sort_values("defense", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def correlations(lines: pd.DataFrame) -> Iterator[str]:
    """Whether the index predicts what leaks, a sentence a defense of enough networks.

    The condition tells of networks that lack nothing: of others it leaves out what they lack.
    """
    for defense, own in lines.groupby("defense", sort=False):
        if len(own) < FEWEST:
            continue
        text = f"{defense}, {len(own)} networks: rank correlation of what leaked with c(M) "
        text += _told(rank_correlation(own["value"], own["ssim"]))
        whole = own[own["value"] == 0]
        if len(whole) >= FEWEST:
            told = _told(rank_correlation(-whole["condition"], whole["ssim"]))
            text += f"; with how small the condition is, of the {len(whole)} with c(M) = 0, {told}"
        yield text


def _told(found: Correlation) -> str:
    if isnan(found.rho):
        return "unknown: all are alike"
    return f"{found.rho:.2f} ({found.low:.2f} to {found.high:.2f})"


def draw_against(lines: pd.DataFrame) -> Figure:
    """What the strongest attack got over the index and over the condition, a point a network."""
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
    right.set(xlabel="condition, the product of all layers'")
    for panel in (left, right):
        panel.grid(alpha=0.25)
    left.legend(fontsize=7, frameon=False)
    figure.suptitle("\n".join(correlations(lines)), fontsize=8)
    return figure
