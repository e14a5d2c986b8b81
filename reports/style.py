"""How every figure looks: a defense has one colour, marker and line everywhere, distinct in grey, too."""

import hashlib
from collections.abc import Sequence
from math import isnan, log10
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.core.words import counted
from leakbench.defenses import DEFENSES
from leakbench.reports.names import title
from leakbench.reports.selection import BASELINE, VICTIM


class Look(NamedTuple):
    """The look of a family of defenses."""

    hue: str
    marker: str
    is_log: bool = False  # whether its strength is on a logarithmic scale from 1e-8 on


# hues of Okabe and Ito's palette, which colour-blind people can distinguish; markers differ, too
FAMILIES = {
    "gaussian": Look("#0072B2", "o", is_log=True),
    "laplacian": Look("#D55E00", "s", is_log=True),
    "gaussian relative": Look("#0072B2", "H", is_log=True),
    "laplacian relative": Look("#D55E00", "d", is_log=True),
    "half precision": Look("#009E73", "D"),
    "prune": Look("#AA4499", "^"),
    "int8": Look("#B8860B", "P"),
    "dp_gaussian": Look("#332288", "<", is_log=True),
    "top_k": Look("#56B4E9", "v"),
    "sign": Look("#882255", "X"),
    "qsgd": Look("#117733", "h", is_log=True),
    "terngrad": Look("#661100", ">"),
    "random_sparsify": Look("#56B4E9", "p"),
    "dual_prune": Look("#882255", "8"),
    "soteria": Look("#117733", "p"),
    "precode": Look("#661100", "8"),
    "mixup": Look("#AA4499", "p"),
    "instahide": Look("#B8860B", "8"),
    "augment": Look("#009E73", "p"),
}
OTHERS = [
    Look("#56B4E9", "v"),
    Look("#882255", "X"),
    Look("#117733", "h"),
    Look("#332288", "<"),
    Look("#661100", ">"),
]
HUES = list(dict.fromkeys(look.hue for look in [*FAMILIES.values(), *OTHERS]))  # for anything but defenses
DPI = 160
MARGIN = 0.1  # inches
LINES = ["-", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (5, 1, 1, 1, 1, 1))]


def marker_style(name: str, family: str, strength: float) -> dict[str, Any]:
    """Colour and marker of a defense's points: the family's, from light (weak) to dark (strong)."""
    if name == BASELINE:
        return {"color": "black", "marker": "*"}
    look = _look(family)
    return {"color": _shade(look.hue, _position(name, family, strength)), "marker": look.marker}


def line_style(name: str, family: str, strength: float) -> dict[str, Any]:
    """Colour and dashes of a defense's curve."""
    if name == BASELINE:
        return {"color": "black", "linestyle": (0, (1, 1))}
    dashes = LINES[round(10 * _position(name, family, strength)) % len(LINES)]
    return {"color": marker_style(name, family, strength)["color"], "linestyle": dashes}


def styles(best: pd.DataFrame) -> dict[str, tuple[str, str, float]]:
    """{defense: the arguments of the two functions above}.

    Defenses of a family that is not built in and has no strength are placed in the order of the rows.
    """
    columns = ["defense", "defense_name", "family", "strength"]
    known = best[columns].drop_duplicates("defense").astype({"strength": float})
    unknown = known["strength"].isna() & ~known["family"].isin(FAMILIES.keys())
    places = known.groupby("family").cumcount() + 0.5
    counts = known.groupby("family")["defense"].transform("size")
    known["strength"] = known["strength"].mask(unknown, places / counts)
    return {
        str(defense): (str(name), str(family), float(strength))
        for defense, name, family, strength in known.itertuples(index=False)
    }


def _look(family: str) -> Look:
    return FAMILIES.get(family) or OTHERS[_number(family) % len(OTHERS)]


def _position(name: str, family: str, strength: float) -> float:
    """Where a defense lies between the weakest (0) and the strongest (1) of its family."""
    if isnan(strength):
        kin = [each.name for each in DEFENSES if (each.family or each.name) == family]
        return (kin.index(name) + 0.5) / len(kin) if name in kin else 0.5
    if _look(family).is_log:
        return min(max((log10(strength) + 8) / 8, 0.0), 1.0) if strength > 0 else 0.0
    return min(max(strength, 0.0), 1.0)


def _shade(hue: str, position: float) -> tuple[float, ...]:
    """From the hue mixed with white to the hue mixed with black."""
    share = 0.55 - position
    towards = 1.0 if share > 0 else 0.0
    return tuple(value + abs(share) * (towards - value) for value in to_rgb(hue))


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def caption(best: pd.DataFrame, modality: Modality = IMAGES) -> str:
    """What a figure shows: `cifar10-sample · lenet · fedsgd · dlg · n = 20 images`."""
    return f"{title(best)} · n = {counted(len(best[VICTIM].drop_duplicates()), modality.one)}"


def make_log(panel: Axes, name: Literal["x", "y"]) -> None:
    """A logarithmic axis with few ticks and plain labels: minor ticks and powers cost a second a figure."""
    panel.set(**{f"{name}scale": "log"})
    axis = panel.xaxis if name == "x" else panel.yaxis
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def write_above(figure: Figure, text: str, inches: float = 0.3) -> None:
    """A title of a figure without a layout engine, above its panels."""
    top = max(panel.get_position().y1 for panel in figure.axes) + inches / figure.get_figheight()
    figure.suptitle(text, fontsize=9, y=top, va="bottom")


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Save the figure in each of these formats, cropped to its content.

    The layout is computed once, here: `bbox_inches="tight"` draws a figure twice for each format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{each}" for each in formats]
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
    box = figure.get_tightbbox().padded(MARGIN)
    for path in paths:
        faster: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if path.suffix == ".png" else {}
        figure.savefig(path, dpi=DPI, bbox_inches=box, **faster)  # 6, the default, takes twice the time
    return paths
