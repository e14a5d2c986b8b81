"""How every figure looks: colours that also differ in grey, line styles that differ without colour."""

from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from reports.summary import SETTING, VICTIM

BASELINE_STYLE: dict[str, Any] = {"color": "black", "linestyle": (0, (1, 1))}
LINE_STYLES = ["-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (5, 2, 1, 2, 1, 2)), (0, (7, 3))]
COLOURS = matplotlib.colormaps["viridis"]


def member_style(position: int, members: int) -> dict[str, Any]:
    """Colour and line style of one curve among `members` of its family, weak (light) to strong (dark)."""
    lightness = 0.85 - 0.75 * position / max(members - 1, 1) if members > 1 else 0.35
    return {"color": COLOURS(lightness), "linestyle": LINE_STYLES[position % len(LINE_STYLES)]}


def caption(best: pd.DataFrame) -> str:
    """What a figure shows: `cifar10-sample · lenet · dlg · n = 20 images`."""
    images = len(best[VICTIM].drop_duplicates())
    return " · ".join([*best[SETTING].iloc[0], f"n = {images} image{'s' * (images != 1)}"])


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """The figure as PNG and as PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    for path in paths:
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return paths
