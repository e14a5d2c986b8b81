"""How a file of this folder describes its figure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import Modality
from leakbench.reports.names import shortened
from leakbench.reports.run import Run
from leakbench.reports.setting import Setting
from leakbench.sweeps.records import Curves

Numbers = Mapping[str, Curves]


@dataclass(frozen=True)
class Kind:
    """A figure that is drawn for each setting of a run.

    Args:
        place: position among the figures; lower ones come first.
        name: name of its file.
        caption: caption on the page, of images: see `Modality.said`; a figure without one is in the folder
            only.
        draw: takes a run, a setting and the curves of the starts that attackers keep; yields an attack's name
            (empty if the figure is not of one attack) and the figure, None if there is nothing to draw.
    """

    place: int
    name: str
    caption: str
    draw: Callable[[Run, Setting, Numbers], Iterator[tuple[str, Figure | None]]]


def each_attack(
    draw: Callable[[pd.DataFrame, Numbers, Modality], Figure | None],
) -> Callable[[Run, Setting, Numbers], Iterator[tuple[str, Figure | None]]]:
    """One figure per attack, because the objectives of two attacks cannot be compared.

    Args:
        draw: takes the starts that the attacker keeps, their curves, and what was attacked.
    """

    def draw_each(_run: Run, setting: Setting, curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
        for attack in setting.rows["attack"].unique():
            own = shortened(setting.kept[setting.kept["attack"] == attack])
            if len(own):
                yield attack if setting.several else "", draw(own, curves, setting.scale.modality)

    return draw_each
