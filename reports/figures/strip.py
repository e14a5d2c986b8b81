"""What the attacker sees: reconstructions, next to the original."""

from collections.abc import Iterator
from math import ceil

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import TEXTS
from leakbench.bench.verdicts import Scale
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.interlinear import Group, Line, draw_groups
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.pictures import MOST_COLUMNS, Sheet, two_lines
from leakbench.reports.run import Run
from leakbench.reports.selection import VICTIM
from leakbench.reports.setting import Setting
from leakbench.reports.style import caption
from leakbench.sweeps.store import Store

MOST_IMAGES = 4
MANY_DEFENSES = 10  # from there on half as many texts
SIDE, WIDTH, HEIGHT = 1.3, 1.38, 1.73  # of a picture; distance from one to the next
HEAD = 0.55  # space above the first


def draw_words(store: Store, best: pd.DataFrame, scale: Scale) -> Figure:
    """The same of texts: below each of the first ones what was found of it by defense, and its ROUGE-L."""
    order = defense_order(best)
    most = MOST_IMAGES if len(order) <= MANY_DEFENSES else MOST_IMAGES // 2
    victims = [own for _, own in best.groupby(VICTIM, sort=False)][:most]
    shown = pd.concat(victims)
    traces = store.traces(shown["key"])
    originals = store.originals(zip(shown["dataset"], shown["index"], strict=True))
    groups = []
    for own in victims:
        rows = own.set_index("defense").to_dict("index")
        first = own.iloc[0]
        lines = [
            Line(name, traces[row["key"]].reconstruction[0], f"{scale.title} {row[scale.column]:.2f}")
            for name, row in ((name, rows[name]) for name in order if name in rows)
            if row["key"] in traces
        ]
        original = originals.get((first["dataset"], first["index"]))
        if original is not None:
            groups.append(Group(f"text {first['index']}", original, lines))
    return draw_groups(caption(best, scale.modality), groups).figure


def draw_strip(store: Store, best: pd.DataFrame) -> Figure:
    """Original and reconstruction by defense, with the SSIM of each, for the first images.

    The pictures of an image are side by side, in as many lines as they need; `best`
    has the result of the strongest attack on each.
    """
    victims = [own for _, own in best.groupby(VICTIM, sort=False)][:MOST_IMAGES]
    order = defense_order(best)
    lines = ceil((1 + len(order)) / MOST_COLUMNS)  # per image
    columns = ceil((1 + len(order)) / lines)
    shown = pd.concat(victims)
    traces = store.traces(shown["key"])
    originals = store.originals(zip(shown["dataset"], shown["index"], strict=True))
    sheet = Sheet(columns * WIDTH, HEAD + lines * len(victims) * HEIGHT - 0.2)
    for number, own in enumerate(victims):
        first = own.iloc[0]
        cells = [
            (
                "original",
                f"original\nimage {first['index']}",
                originals.get((first["dataset"], first["index"])),
                "",
            )
        ]
        for row in own.to_dict("records"):
            picture = traces[row["key"]].reconstruction[0] if row["key"] in traces else None
            cells.append((row["defense"], two_lines(row["defense"]), picture, f"SSIM {row['ssim']:.2f}"))
        places = ["original", *order]
        for name, above, picture, below in cells:
            down, across = divmod(places.index(name), columns)
            left, top = across * WIDTH + 0.04, HEAD + (number * lines + down) * HEIGHT
            sheet.write(above, left + SIDE / 2, top - 0.04, 7, va="bottom")
            sheet.write(below, left + SIDE / 2, top + SIDE + 0.03, 7, va="top")
            if picture is not None:
                sheet.show(picture, left, top, SIDE)
    sheet.write(caption(best), columns * WIDTH / 2, 0.06, 9, va="top")
    return sheet.figure


def _draw(run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    best = shortened(setting.best)
    if len(best) and setting.scale.modality is TEXTS:
        yield "", draw_words(run.store, best, setting.scale)
    elif len(best):
        yield "", draw_strip(run.store, best)


KIND = Kind(40, "strip", "", _draw)
