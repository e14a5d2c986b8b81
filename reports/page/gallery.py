"""The gallery of the page: the same images under each defense, at several steps of the attack."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from leakbench.reports.alone import SPARED
from leakbench.reports.names import short_attacks
from leakbench.reports.page.shown import Frames, original_shown, shown
from leakbench.reports.pictures import spread
from leakbench.reports.selection import VICTIM
from leakbench.reports.setting import Setting
from leakbench.sweeps.store import Store

MOST_FILMS = 240  # on the whole page, so that it stays small enough for a mail
MOST_FRAMES = 8  # per film
MOST_COLUMNS = 12

Place = tuple[Any, ...]  # the values of VICTIM, and a defense


@dataclass(frozen=True)
class Try:
    """What one attack made of one image or text under one defense."""

    attack: str
    strongest: bool  # whether it decides, as nothing that another attack found has a higher score
    score: float = float("nan")  # SSIM, or ROUGE-L
    leaked: bool = False
    frames: Frames = ""  # what it found at each step
    count: int = 0  # of the frames: all steps, or only the end
    reason: str = ""  # why nothing was found


@dataclass(frozen=True)
class Column:
    """An image or text."""

    title: str
    original: str  # data URI of the picture, or the words of the text


@dataclass(frozen=True)
class Row:
    """A defense."""

    defense: str
    cells: list[list[Try]]  # for each column one try per attack; exactly one of these is the strongest


@dataclass(frozen=True)
class Gallery:
    """One dataset, model and protocol: the same columns for every defense."""

    steps: list[str]  # labels of the frames: `step 30`, and last `end`, what the attacker keeps
    attacks: list[str]
    columns: list[Column]  # the worst for the victim first
    rows: list[Row]  # in the order of the table
    complete: bool  # whether every attack has all steps; otherwise only the strongest has
    not_shown: int  # images without a column


def gallery(store: Store, setting: Setting, room: int) -> Gallery:
    """The images or texts that leaked most over all defenses, and what each attack made of them.

    Args:
        store: the run's store.
        setting: one dataset, model and protocol of the run.
        room: the largest number of films; one per defense is shown even if that is more.
    """
    defenses = list(setting.board["defense"])
    victims = worst_victims(setting.best, min(MOST_COLUMNS, max(1, room // len(defenses))))
    tries = _Tries(store, setting, victims, room)
    weights = setting.best["model_seed"].nunique() > 1
    columns = {}
    for each in victims.to_dict("records"):
        original = tries.originals.get((each["dataset"], each["index"]))
        title = f"{setting.scale.modality.one} {each['index']}" + f", weights {each['model_seed']}" * weights
        if original is not None:
            columns[tuple(each.values())] = Column(title, original_shown(original))
    return Gallery(
        steps=[*(f"step {step}" for step in tries.steps), "end"],
        attacks=list(tries.attacks.values()),
        columns=list(columns.values()),
        rows=[Row(name, [list(tries.of((*victim, name))) for victim in columns]) for name in defenses],
        complete=tries.complete,
        not_shown=len(setting.best.drop_duplicates(["dataset", "index"])) - len(columns),
    )


def worst_victims(best: pd.DataFrame, most: int) -> pd.DataFrame:
    """Those of highest score, summed over all defenses, the worst first, so that a failed trial counts as 0.

    Columns: VICTIM. Of several weights of the network, an image is there with those that leaked most.

    Args:
        best: the rows of one setting, as `strongest` returns them.
        most: the largest number of them.
    """
    totals = best.groupby(VICTIM, sort=False)["score"].sum().sort_values(ascending=False, kind="stable")
    return totals.reset_index()[VICTIM].drop_duplicates(["dataset", "index"]).head(most)


class _Tries:
    """What was tried on the images shown."""

    def __init__(self, store: Store, setting: Setting, victims: pd.DataFrame, room: int):
        kept = setting.kept.merge(victims)
        self.attacks, self.scale = short_attacks(setting.rows), setting.scale
        self.strongest = set(setting.best["key"])
        self.originals = store.originals(zip(victims["dataset"], victims["index"], strict=True))
        self.traces = store.traces(kept["key"])
        steps = {step for trace in self.traces.values() for step in trace.snapshots}
        self.steps = spread(sorted(steps), MOST_FRAMES - 1)
        self.complete = len(kept) <= room
        self.found: dict[Place, dict[str, Mapping[Any, Any]]] = defaultdict(dict)
        for row in kept.to_dict("records"):
            self.found[_place(row)][row["attack"]] = row
        failed = setting.rows[["attack", "reason", *VICTIM, "defense"]].merge(victims)
        self.failed = {(*_place(row), row["attack"]): row["reason"] for row in failed.to_dict("records")}

    def of(self, place: Place) -> Iterator[Try]:
        """The try of each attack at a place; if none has a result, the first one counts as the strongest."""
        found = self.found.get(place, {})
        leaked = any(self._leaked(row) for row in found.values())
        for number, (attack, name) in enumerate(self.attacks.items()):
            if attack in found:
                yield self._shown(found[attack], name)
            else:
                reason = self.failed.get((*place, attack), SPARED if leaked else "has not run")
                yield Try(name, strongest=not found and number == 0, reason=reason)

    def _shown(self, row: Mapping[Any, Any], name: str) -> Try:
        strongest, trace = row["key"] in self.strongest, self.traces.get(row["key"])
        score, leaked = row[self.scale.column], self._leaked(row)
        if trace is None:
            return Try(name, strongest, score, leaked, reason="not stored")
        # a trial that ended early keeps its last picture
        steps = self.steps if strongest or self.complete else []
        frames = [trace.snapshots.get(step, trace.reconstruction)[0] for step in steps]
        frames.append(trace.reconstruction[0])
        original = self.originals[row["dataset"], row["index"]]
        return Try(name, strongest, score, leaked, shown(frames, original), len(frames))

    def _leaked(self, row: Mapping[Any, Any]) -> bool:
        return bool(row[self.scale.column] >= self.scale.leak)


def _place(row: Mapping[Any, Any]) -> Place:
    return tuple(row[name] for name in (*VICTIM, "defense"))
