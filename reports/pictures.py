"""What the attacker sees: reconstructions beside the original, and how they came about."""

from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from leakbench.reports.names import defense_order
from leakbench.reports.selection import VICTIM, first_victim
from leakbench.reports.style import caption
from leakbench.sweeps.store import Store

MOST_IMAGES = 4
MOST_COLUMNS = 10
CELL = 1.15  # inches


def draw_strip(store: Store, best: pd.DataFrame) -> Figure:
    """Original and reconstruction by defense, with the SSIM of each, for the first images.

    The pictures of an image stand side by side, in as many lines as they need; `best`
    has the restart of lowest objective for each.
    """
    victims = list(best.groupby(VICTIM, sort=False))[:MOST_IMAGES]
    order = defense_order(best)
    lines = ceil((1 + len(order)) / MOST_COLUMNS)  # of one image
    columns = ceil((1 + len(order)) / lines)
    figure, panels = _grid(lines * len(victims), columns, height=1.5)
    for cells, (_, of_victim) in zip(np.split(panels, len(victims)), victims, strict=True):
        dataset, index = of_victim[["dataset", "index"]].iloc[0]
        show_image(cells.flat[0], store.original(dataset, index), f"original\nimage {index}")
        traces = store.traces(of_victim["key"])
        for defense, key, ssim in zip(*(of_victim[name] for name in ("defense", "key", "ssim")), strict=True):
            panel = cells.flat[1 + order.index(defense)]
            show_image(panel, traces[key].reconstruction[0] if key in traces else None, two_lines(defense))
            panel.set_xlabel(f"SSIM {ssim:.2f}", fontsize=7, labelpad=2)
    figure.suptitle(caption(best), fontsize=9)
    return figure


def two_lines(defense: str) -> str:
    """`gaussian(variance=0.01)` with its settings in a line of their own."""
    name, _, settings = defense.removesuffix(")").partition("(")
    return f"{name}\n{settings}"


def draw_film(store: Store, best: pd.DataFrame) -> Figure | None:
    """The way to the first image's reconstructions, a row a defense; None where no snapshot was kept."""
    first = first_victim(best)
    order = defense_order(first)
    traces = store.traces(first["key"])
    films = {
        defense: traces[key].snapshots if key in traces else {}
        for defense, key in zip(first["defense"], first["key"], strict=True)
    }
    steps = spread(sorted({step for film in films.values() for step in film}), MOST_COLUMNS)
    if not steps:
        return None
    figure, panels = _grid(len(order), len(steps), height=1.05)
    for row_of_panels, defense in zip(panels, order, strict=True):
        for panel, step in zip(row_of_panels, steps, strict=True):
            if step in films[defense]:
                show_image(panel, films[defense][step][0], "")
        row_of_panels[0].set_ylabel(defense, rotation=0, ha="right", va="center", fontsize=8)
    for panel, step in zip(panels[0], steps, strict=True):
        panel.set_title(f"step {step}", fontsize=8)
    figure.suptitle(caption(first), fontsize=9)
    return figure


def spread(steps: list[int], most: int) -> list[int]:
    """At most so many of the steps, the first and the last among them."""
    places = np.linspace(0, len(steps) - 1, min(len(steps), most)).round().astype(int)
    return [steps[place] for place in places]


def side_by_side(pictures: list[np.ndarray]) -> Image.Image:
    """Pictures (C, H, W) in [0, 1] as one."""
    strip = np.concatenate(pictures, axis=2)  # (C, H, N * W)
    pixels = (strip * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def _grid(rows: int, columns: int, height: float) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1.5 + CELL * columns, 0.4 + height * CELL * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        clear(panel)
    return figure, panels


def clear(panel: Axes) -> None:
    """Take away what is drawn around a picture."""
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def show_image(panel: Axes, image: np.ndarray | None, title: str) -> None:
    """An image (C, H, W) in [0, 1], grey where it has one channel; nothing where it was torn."""
    panel.set_title(title, fontsize=7, pad=3)
    if image is not None:
        pixels = image.transpose(1, 2, 0)
        panel.imshow(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
