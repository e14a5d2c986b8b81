"""The figures of a run."""

import re
from pathlib import Path

from reports.curves import draw_curves
from reports.pictures import draw_film, draw_strip
from reports.scores import draw_scores
from reports.style import save
from reports.summary import SETTING, best_of_restarts
from sweeps.store import Store


def write_figures(store: Store) -> list[Path]:
    """Draw every figure of every data set, model and attack into RUN/figures, as PNG and PDF.

    Where the run has several of those, a figure's name tells which it is of.
    """
    scale = store.scale
    groups = [part for _, part in best_of_restarts(store.rows(), scale).groupby(SETTING, sort=False)]
    folder = store.folder / "figures"
    paths = []
    for number, part in enumerate(groups, 1):
        suffix = "" if len(groups) == 1 else f"_{number}_{_slug(' '.join(part[SETTING].iloc[0]))}"
        paths += save(draw_scores(part, scale), folder, f"scores{suffix}")
        paths += save(draw_curves(store, part), folder, f"curves{suffix}")
        paths += save(draw_strip(store, part), folder, f"strip{suffix}")
        film = draw_film(store, part)
        paths += save(film, folder, f"film{suffix}") if film is not None else []
    return paths


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:80]
