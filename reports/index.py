"""Security indices: tables, and what they mean in words."""

from collections.abc import Iterator, Sequence
from math import isnan

import pandas as pd
from rich.table import Table

from leakbench.bench.index import ModelIndex
from leakbench.bench.spectrum import SEEN
from leakbench.reports.names import defense_order, short_names
from leakbench.reports.setting import Setting
from leakbench.reports.statistics import Correlation, rank_correlation
from leakbench.reports.terminal import plain_table, put_below
from leakbench.sweeps.indices import as_index

NETWORK = ["dataset", "index", "model", "model_seed"]
FEWEST_NETWORKS = 4  # networks, for a correlation to be reported


def index_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """One table per network and image, with its meaning below; defenses with the same equations share one."""
    for (dataset, index, model, seed, _), part in short_networks(rows).groupby(
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
        put_below(table, f"{meaning_of_index(found)}\n")
        yield table


def short_networks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the short names of models and defenses."""
    return rows.assign(**{name: rows[name].map(short_names(rows[name])) for name in ("model", "defense")})


def meaning_of_index(found: ModelIndex) -> str:
    """c(M) and its meaning."""
    if found.is_exact and found.value == 0:
        return (
            "c(M) = 0, the least secure: every layer's equations determine its input, so an exact\n"
            f"gradient determines the image; errors in it may grow {found.condition:.2g} times on the way"
        )
    text = f"c(M) = {found.value:,.0f}"
    if found.is_exact:
        return (
            f"{text}: minus the count of numbers that no equation determines, layer i of d weighted\n"
            "(d - i + 1) / d; 0 is the least secure; the lower, the less a gradient reveals of the image"
        )
    return (
        f"{text} ± {found.error:,.0f}, or nearer to 0, which is the least secure: ranks of large layers (~)\n"
        f"are estimates that ignore what is below {SEEN:.0%} of a layer's largest singular value"
    )


def index_and_leakage(rows: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """One line per network and defense that was attacked and whose index is known.

    Columns: dataset, model, model_seed, defense, `value` (c(M)), `condition` (the product of its layers'),
    `ssim` (the median of the strongest attack), `images`.
    """
    if not settings or rows.empty:
        return pd.DataFrame()
    bests = pd.concat([each.best for each in settings])
    best = bests.groupby(["dataset", "model", "model_seed", "defense"], sort=False)
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
    places = {
        defense: place
        for place, defense in enumerate(defense_order(pd.concat([each.rows for each in settings])))
    }
    return both.sort_values("defense", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def correlations(lines: pd.DataFrame) -> Iterator[str]:
    """Whether the index predicts what leaks: one sentence per defense with enough networks.

    The condition is used only where c(M) = 0: elsewhere it ignores what no equation determines.
    """
    if lines.empty:
        return
    for defense, own in lines.groupby("defense", sort=False):
        if len(own) < FEWEST_NETWORKS:
            continue
        text = f"{defense}, {len(own)} networks: rank correlation of SSIM with c(M) "
        text += _told(rank_correlation(own["value"], own["ssim"]))
        whole = own[own["value"] == 0]
        if len(whole) >= FEWEST_NETWORKS:
            told = _told(rank_correlation(-whole["condition"], whole["ssim"]))
            text += f"; with minus the condition, among the {len(whole)} with c(M) = 0, {told}"
        yield text


def _told(found: Correlation) -> str:
    if isnan(found.rho):
        return "unknown: all values are equal"
    return f"{found.rho:.2f} ({found.low:.2f} to {found.high:.2f})"
