"""What defenses hide and what they cost, and which of them no other beats."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import IMAGES
from leakbench.bench.verdicts import Scale
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.names import shortened
from leakbench.reports.run import Run
from leakbench.reports.selection import BASELINE
from leakbench.reports.setting import Setting
from leakbench.reports.style import marker_style, styles


def pareto(points: pd.DataFrame, score: str = IMAGES.leading) -> pd.DataFrame:
    """The rows that no other row beats: at least as good in accuracy and score, strictly better in one.

    Args:
        points: with the columns accuracy and `score`.
        score: the column of how much leaked.
    """
    accuracy, leaked = points["accuracy"].to_numpy(), points[score].to_numpy()
    beaten = [
        bool(((accuracy >= a) & (leaked <= s) & ((accuracy > a) | (leaked < s))).any())
        for a, s in zip(accuracy, leaked, strict=True)
    ]
    return points[[not each for each in beaten]].sort_values("accuracy")


def draw_tradeoff(lines: pd.DataFrame, scale: Scale) -> Figure:
    """One point per defense with its intervals, and the line through those that no other beats.

    Args:
        lines: a line per defense of one setting, with the columns of `summarize` and of `summarize_utility`;
            those without an accuracy or an image that counts are skipped.
        scale: what counts as a leak.
    """
    score = scale.column
    points = lines.dropna(subset=["accuracy", score])
    front = pareto(points, score)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    panel = figure.subplots()
    panel.step(100 * front["accuracy"], front[score], where="pre", color="0.4", linewidth=1, zorder=1)
    known = styles(points)
    for line in points.to_dict("records"):
        style = marker_style(*known[line["defense"]])
        x, y = 100 * line["accuracy"], line[score]
        sides = [[y - line[f"{score}_low"]], [line[f"{score}_high"] - y]]
        across = [[x - 100 * line["accuracy_low"]], [100 * line["accuracy_high"] - x]]
        panel.errorbar(
            x, y, pd.DataFrame(sides).fillna(0).to_numpy(), pd.DataFrame(across).fillna(0).to_numpy(),
            label=line["defense"], linestyle="", elinewidth=0.7,
            markersize=9 if line["defense"] == BASELINE else 6, **style,
        )  # fmt: skip
    for threshold, name in ((scale.leak, "leak"), (scale.artifacts, "artifacts")):
        panel.axhline(threshold, color="black", linewidth=0.8, linestyle=":")
        panel.annotate(name, (1.0, threshold), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    panel.set(
        xlabel="accuracy in training [%]",
        ylabel=f"median {scale.title} of the reconstructions",
        ylim=(-0.05, 1.05),
    )
    panel.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    figure.suptitle("below and to the right is better; the line: no other defense beats these", fontsize=9)
    return figure


def _draw(_run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    """A figure if a defense was both trained with and attacked."""
    if len(setting.trainings) and setting.board[["accuracy", setting.scale.column]].notna().all(axis=1).any():
        yield "", draw_tradeoff(shortened(setting.board), setting.scale)


KIND = Kind(
    0,
    "tradeoff",
    "Median SSIM of the reconstructions against the accuracy in training, one point per defense",
    _draw,
)
