"""How reconstructions develop over the steps."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import TEXTS
from leakbench.reports.figures.kind import Kind, Numbers
from leakbench.reports.interlinear import Group, Line, draw_groups
from leakbench.reports.names import defense_order, shortened
from leakbench.reports.pictures import MOST_COLUMNS, Sheet, spread
from leakbench.reports.run import Run
from leakbench.reports.selection import first_victim
from leakbench.reports.setting import Setting
from leakbench.reports.style import caption
from leakbench.sweeps.store import Store

SIDE, WIDTH, HEIGHT = 1.05, 1.14, 1.21  # of a picture; distance from one to the next
HEAD = 0.4  # space above the first
LETTER = 0.075  # width of a letter in a name, at most
MOST_LINES = 6  # steps of a text


def draw_film(store: Store, best: pd.DataFrame) -> Figure | None:
    """The snapshots of the first image's attacks, one row per defense; None if no snapshot was kept."""
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
    room = LETTER * max(map(len, order))
    sheet = Sheet(room + len(steps) * WIDTH, HEAD + len(order) * HEIGHT)
    for down, defense in enumerate(order):
        top = HEAD + down * HEIGHT
        sheet.write(defense, room - 0.02, top + SIDE / 2, 8, ha="right", va="center")
        for across, step in enumerate(steps):
            if step in films[defense]:
                sheet.show(films[defense][step][0], room + across * WIDTH + 0.04, top, SIDE)
    for across, step in enumerate(steps):
        sheet.write(f"step {step}", room + across * WIDTH + 0.04 + SIDE / 2, HEAD - 0.08, 8, va="bottom")
    sheet.write(caption(first), (room + len(steps) * WIDTH) / 2, 0.02, 9, va="top")
    return sheet.figure


def draw_word_film(store: Store, best: pd.DataFrame) -> Figure | None:
    """The same of texts: for each defense the true words, and below them the found ones at each step."""
    first = first_victim(best)
    traces = store.traces(first["key"])
    places = set(zip(first["dataset"], first["index"], strict=True))
    originals = store.originals(places).values()
    groups = []
    for defense, key in first.set_index("defense")["key"].reindex(defense_order(first)).items():
        film = traces[key].snapshots if key in traces else {}
        lines = [Line(f"step {step}", film[step][0]) for step in spread(sorted(film), MOST_LINES)]
        groups += [Group(str(defense), original, lines) for original in originals if lines]
    title = f"{caption(first, TEXTS)}, number {first['index'].iloc[0]}"
    return draw_groups(title, groups).figure if groups else None


def _draw(run: Run, setting: Setting, _curves: Numbers) -> Iterator[tuple[str, Figure | None]]:
    best = shortened(setting.best)
    if len(best) and setting.scale.modality is TEXTS:
        yield "", draw_word_film(run.store, best)
    elif len(best):
        yield "", draw_film(run.store, best)


KIND = Kind(41, "film", "", _draw)
