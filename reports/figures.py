"""The figures of a run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.verdicts import Scale
from leakbench.reports.curves import draw_curves
from leakbench.reports.index import FEWEST, draw_against, draw_index, index_and_leakage
from leakbench.reports.layers import draw_distances, draw_input_errors
from leakbench.reports.leaderboard import leaderboard, trained_with
from leakbench.reports.names import shortened
from leakbench.reports.pictures import draw_film, draw_strip
from leakbench.reports.scores import draw_scores
from leakbench.reports.selection import SETTING, kept_starts, strongest
from leakbench.reports.style import save
from leakbench.reports.tradeoff import can_be_drawn, draw_tradeoff
from leakbench.sweeps.store import Store


@dataclass(frozen=True)
class Drawn:
    """A figure on disk."""

    setting: int  # which data set, model and protocol of the run, from 0
    name: str
    paths: list[Path]  # one a format


def write_figures(
    store: Store, folder: Path | None = None, formats: Sequence[str] = ("png", "pdf")
) -> list[Drawn]:
    """Draw every figure of every data set, model and protocol.

    Where the run has several of those, a figure's name tells which it is of.

    Args:
        store: of the run.
        folder: where they go; RUN/figures where none is given.
        formats: that each is written in.
    """
    folder = folder or store.folder / "figures"
    scale, rows, trainings = store.scale, store.rows(), store.trainings()
    indices = store.index_rows()
    groups = list(rows.groupby(SETTING, sort=False))
    drawn = []
    for number, (setting, own) in enumerate(groups):
        suffix = "" if len(groups) == 1 else f"_{number + 1}_{_slug(' '.join(map(str, setting)))}"
        figures = list(_draw(store, own, trained_with(trainings, own), scale))
        if len(measured := _of_setting(indices, own)):
            figures.append(("index", draw_index(measured)))
        for name, figure in figures:
            drawn.append(Drawn(number, name, save(figure, folder, f"{_slug(name)}{suffix}", formats)))
    lines = index_and_leakage(indices, rows, scale)
    if len(lines) >= FEWEST:
        path = save(draw_against(lines), folder, "index_and_leakage", formats)
        drawn.append(Drawn(len(groups) - 1, "leakage", path))
    return drawn


def _draw(
    store: Store, rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale
) -> Iterator[tuple[str, Figure]]:
    """Those of one setting, where there is something to draw."""
    best = shortened(strongest(rows, scale))
    if best.empty:
        return
    if len(trainings):
        lines = shortened(leaderboard(rows, trainings, scale))
        if can_be_drawn(lines):
            yield "tradeoff", draw_tradeoff(lines, scale)
    yield "scores", draw_scores(best, scale)
    for attack in rows["attack"].unique():  # their objectives are not to be compared
        own = shortened(kept_starts(rows[rows["attack"] == attack]))
        if own.empty:
            continue
        several = f" {attack}" if rows["attack"].nunique() > 1 else ""
        yield f"curves{several}", draw_curves(store, own)
        for name, draw in (("distances", draw_distances), ("inputs", draw_input_errors)):
            figure = draw(store, own)
            if figure is not None:
                yield f"{name}{several}", figure
    yield "strip", draw_strip(store, best)
    film = draw_film(store, best)
    if film is not None:
        yield "film", film


def _of_setting(indices: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The security indices of the networks that were attacked there."""
    first = rows.iloc[0]
    own: pd.DataFrame = indices[
        (indices["dataset"] == first["dataset"]) & (indices["model"] == first["model"])
    ]
    return own


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:80]
