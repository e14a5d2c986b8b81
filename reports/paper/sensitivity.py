"""How the verdicts depend on more than the defense: data, weights, activation, training, budget."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.models import MODELS
from leakbench.bench.verdicts import Scale
from leakbench.reports.names import setting_value
from leakbench.reports.selection import BASELINE, SETTING
from leakbench.reports.style import marker_style, styles
from leakbench.reports.summary import summarize

# common to all of sweeps/paper, unless a file changes it
DATASET, MODEL, WEIGHTS = "cifar10-sample", "lenet", 0
TRAINED_ON = "mnist-sample"


@dataclass(frozen=True)
class Factor:
    """What is varied alone: a column, and the labels of its values (empty for those that do not belong)."""

    name: str
    column: str
    label: Callable[[pd.DataFrame], pd.Series]  # of rows; empty where one does not belong
    dataset: str = DATASET
    ordered: bool = False  # whether points between two values are meaningful

    def rows(self, rows: pd.DataFrame, attack: str) -> dict[str, pd.DataFrame]:
        """{label: rows}, for the rows that differ from the common case in that column only."""
        common = {
            "dataset": self.dataset, "model": MODEL, "model_seed": WEIGHTS, "protocol": "fedsgd",
            "attack": attack,
        }  # fmt: skip
        others = [rows[name] == value for name, value in common.items() if name != self.column]
        own = rows[np.logical_and.reduce(others)]
        labels = self.label(own).astype(str)
        order = sorted(labels.unique(), key=lambda label: (int(label) if label.isdigit() else 0, label))
        return {label: own[labels == label] for label in order if label}


def _dataset(rows: pd.DataFrame) -> pd.Series:
    return rows["dataset"].str.removesuffix("-sample").str.removesuffix("-subset")


def _changed(rows: pd.DataFrame, name: str) -> pd.Series:
    """A setting of models that differ from the common one in nothing else."""
    common = MODELS.parse(MODEL).settings()

    def value(text: str) -> str:
        settings = json.loads(text)
        return str(settings[name]) if {**settings, name: common[name]} == common else ""

    return rows["model_settings"].map(value)


def _epoch(rows: pd.DataFrame) -> pd.Series:
    """By the name of the checkpoint, which need not be there any more."""
    weights = _changed(rows, "weights")
    return weights.str.extract(r"epoch(\d+)\.pt$", expand=False).fillna("0").where(weights != "", "")


FACTORS = (
    Factor("dataset", "dataset", _dataset),
    Factor("draw of the weights", "model_seed", lambda rows: rows["model_seed"]),
    Factor("activation", "model", lambda rows: _changed(rows, "activation")),
    Factor("epochs of training (MNIST)", "model", _epoch, TRAINED_ON, ordered=True),
    Factor("outer steps", "attack", lambda rows: setting_value(rows, "attack", "steps"), ordered=True),
)


def sensitivity(rows: pd.DataFrame, attack: str, scale: Scale) -> pd.DataFrame:
    """One line per factor, value and defense: factor, value, and the columns of `summarize`.

    Args:
        rows: rows of all runs, each once.
        attack: the attack of the common case.
        scale: what counts as a leak.
    """
    parts = []
    for factor in FACTORS:
        for value, own in factor.rows(rows, attack).items():
            summary = summarize(own, scale).drop(columns=SETTING)
            parts.append(summary.assign(factor=factor.name, value=value))
    return pd.concat(parts, ignore_index=True)


def draw_sensitivity(table: pd.DataFrame, scale: Scale) -> Figure:
    """One panel per factor: median SSIM with its interval by value, one line per defense.

    A defense is shown only where images count, which is where the attack works without it.
    """
    factors = list(table["factor"].unique())
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    widths = [1 + table.loc[table["factor"] == factor, "value"].nunique() for factor in factors]
    panels = figure.subplots(1, len(factors), sharey=True, squeeze=False, width_ratios=widths)[0]
    known = styles(table)
    ordered = {factor.name for factor in FACTORS if factor.ordered}
    for panel, factor in zip(panels, factors, strict=True):
        own = table[table["factor"] == factor]
        values = list(own["value"].unique())
        for number, defense in enumerate(known):
            line = own[own["defense"] == defense].set_index("value").reindex(values)
            place = np.arange(len(values)) + 0.06 * (number - len(known) / 2)  # side by side
            low, high = line["ssim"] - line["ssim_low"], line["ssim_high"] - line["ssim"]
            panel.errorbar(
                place, line["ssim"], yerr=np.nan_to_num([low, high]), label=defense, markersize=5,
                linewidth=0.8 if factor in ordered else 0, elinewidth=0.8, **marker_style(*known[defense]),
            )  # fmt: skip
        leaked = own[own["defense"] == BASELINE].set_index("value")
        ticks = [f"{value}\n{leaked.loc[value, 'leaked']}/{leaked.loc[value, 'images']}" for value in values]
        panel.set_xticks(range(len(values)), ticks, fontsize=7)
        panel.set_xlim(-0.5, len(values) - 0.5)
        panel.set_title(factor, fontsize=9)
        for threshold in (scale.leak, scale.artifacts):
            panel.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
        panel.grid(axis="y", alpha=0.25)
    panels[0].set_ylabel("median SSIM")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    text = (
        "side by side in the order of the legend; below each value: images that leak without a defense;"
        " dotted lines: thresholds for artifacts and leak"
    )
    figure.suptitle(text, fontsize=9)
    return figure
