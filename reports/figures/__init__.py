"""The figures of a run: one file each, which describes its figure by a `KIND`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from matplotlib.figure import Figure

from leakbench.reports.figures import protocols
from leakbench.reports.figures.kind import Kind
from leakbench.reports.figures.leakage import CAPTION, draw_against
from leakbench.reports.index import FEWEST_NETWORKS, index_and_leakage
from leakbench.reports.protocols import along_protocols
from leakbench.reports.run import Run
from leakbench.reports.selection import SETTING
from leakbench.reports.setting import Setting
from leakbench.reports.style import save


@dataclass(frozen=True)
class Drawn:
    """A figure on disk."""

    setting: int  # which dataset, model and protocol of the run, from 0
    name: str
    caption: str  # empty: not on the page
    paths: list[Path]  # one per format


@cache
def kinds() -> list[Kind]:
    """The kinds in the files of this folder, in the order of the page."""
    files = (import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__))
    return sorted((file.KIND for file in files if hasattr(file, "KIND")), key=lambda kind: kind.place)


def write_figures(run: Run, folder: Path | None = None, formats: Sequence[str] = ("png",)) -> list[Drawn]:
    """Draw every figure of every dataset, model and protocol.

    If the run has several of those, a figure's name says which one it shows.

    Args:
        run: the run to draw.
        folder: where to write; RUN/figures by default.
        formats: the file formats of each figure.
    """
    folder = folder or run.store.folder / "figures"
    drawn = []
    for number, setting in enumerate(run.settings):
        place = setting.rows[SETTING].iloc[0]
        suffix = "" if len(run.settings) == 1 else f"_{number + 1}_{_slug(' '.join(map(str, place)))}"
        for kind, attack, figure in _draw(run, setting):
            name = f"{kind.name} {attack}".rstrip()
            about = run.scale.modality.said(kind.caption)
            caption = f"{about}, {attack}" if about and attack else about
            drawn.append(
                Drawn(number, name, caption, save(figure, folder, f"{_slug(name)}{suffix}", formats))
            )
    lines = index_and_leakage(run.indices, run.settings)
    if len(lines) >= FEWEST_NETWORKS:
        paths = save(draw_against(lines), folder, "index_and_leakage", formats)
        drawn.append(Drawn(len(run.settings) - 1, "leakage", CAPTION, paths))
    for varied, along in along_protocols(run.settings).items():
        figure = protocols.draw_along(varied, along, run.scale.modality)
        paths = save(figure, folder, f"against_{varied}", formats)
        about = protocols.CAPTION.format(setting=varied.replace("_", " "))
        drawn.append(Drawn(len(run.settings) - 1, "protocols", about, paths))
    return drawn


def _draw(run: Run, setting: Setting) -> Iterator[tuple[Kind, str, Figure]]:
    """The figures of one setting for which there is something to draw."""
    curves = run.store.curves(setting.kept["key"])
    for kind in kinds():
        for attack, figure in kind.draw(run, setting, curves):
            if figure is not None:
                yield kind, attack, figure


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:80]
