"""What a file of this folder says of its figure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from leakbench.reports.names import shortened
from leakbench.reports.run import Run
from leakbench.reports.setting import Setting
from leakbench.sweeps.records import Curves

Numbers = Mapping[str, Curves]


@dataclass(frozen=True)
class Kind:
    """A figure of each setting of a run.

    Args:
        place: among the figures: those of lower places come first.
        name: of its file.
        caption: on the page; a figure without one is in the folder only.
        draw: it, for a setting and the curves of the starts that its attackers keep; after the name of the
            attack that it is of, or nothing. No figure where there is nothing to draw.
    """

    place: int
    name: str
    caption: str
    draw: Callable[[Run, Setting, Numbers], Iterator[tuple[str, Figure | None]]]


def each_attack(
    draw: Callable[[pd.DataFrame, Numbers], Figure | None],
) -> Callable[[Run, Setting, Numbers], Iterator[tuple[str, Figure | None]]]:
    """A figure of each attack: their objectives are not to be compared.

    Args:
        draw: it, of the starts that the attacker keeps, and of their curves.
    """

    def draw_each(_run: Run, setting: Setting, curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
        for attack in setting.rows["attack"].unique():
            own = shortened(setting.kept[setting.kept["attack"] == attack])
            if len(own):
                yield attack if setting.several else "", draw(own, curves)

    return draw_each
