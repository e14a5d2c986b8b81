"""The same of texts: what the attacker found, below the original."""

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.verdicts import Scale
from leakbench.reports.interlinear import Group, Line, draw_groups
from leakbench.reports.names import defense_order
from leakbench.reports.selection import VICTIM
from leakbench.reports.style import caption
from leakbench.sweeps.store import Store

MOST_TEXTS = 4
MANY_DEFENSES = 10  # from there on half as many texts


def draw_words(store: Store, best: pd.DataFrame, scale: Scale) -> Figure:
    """Below each of the first texts what was found of it by defense, and its ROUGE-L."""
    order = defense_order(best)
    most = MOST_TEXTS if len(order) <= MANY_DEFENSES else MOST_TEXTS // 2
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
