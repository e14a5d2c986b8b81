"""The lines of the leaderboard: one per defense, worked out from the rows of all entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from leakbench.bench.attacks.handed_in import HANDED_IN
from leakbench.bench.modalities import IMAGES, MODALITIES
from leakbench.bench.verdicts import Scale
from leakbench.board.benchmark import Benchmark
from leakbench.board.entry import Entry
from leakbench.reports.leaderboard import UTILITY
from leakbench.reports.selection import BASELINE, counted, judged, rebuilt_inputs, with_result
from leakbench.reports.setting import Setting
from leakbench.reports.statistics import ends, mean_of_medians, wilson

COUNTS = ["victims", "leaked", "handed_in", "inputs", "observations"]


@dataclass(frozen=True)
class Contender:
    """A defense with all entries on it: whoever attacks it better submits another one, and both count."""

    defense: str  # with its settings
    entries: tuple[Entry, ...]

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Its rows and those of the undefended attack, of all parts.

        What was handed in does not decide which victims leak without a defense, and so which of them count.
        """
        rows = pd.concat([each.trials for each in self.entries], ignore_index=True)
        if self.defense != BASELINE:
            rows = rows[~(handed_in(rows) & (rows["defense"] == BASELINE))]
        return rows[rows["defense"].isin((self.defense, BASELINE))].drop_duplicates(["part", "key"])

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """Its trainings and the undefended ones."""
        rows = pd.concat([each.trainings for each in self.entries], ignore_index=True)
        return rows[rows["defense"].isin((self.defense, BASELINE))].drop_duplicates("key")

    @cached_property
    def _parts(self) -> dict[str, Setting | None]:
        """Those that have been asked for."""
        return {}

    def part(self, name: str) -> Setting | None:
        """The tables of a part; None where no trial of it has a result."""
        if name not in self._parts:
            self._parts[name] = self._setting(name)
        return self._parts[name]

    def _setting(self, name: str) -> Setting | None:
        rows = self.trials[self.trials["part"] == name]
        measured = with_result(rows)
        if measured.empty or self.defense not in set(measured["defense"]):
            return None
        return Setting(rows, scale_of(rows), self.trainings, lambda _keys: {})


def handed_in(rows: pd.DataFrame) -> pd.Series:
    """Which rows are of what was rebuilt elsewhere, by nobody knows what."""
    return rows["attack_name"].isin(HANDED_IN)


def scale_of(rows: pd.DataFrame) -> Scale:
    """The thresholds for the examples that these rows are about."""
    modality = MODALITIES[rows["modality"].dropna().iloc[0]]
    return Scale(modality.leak, modality.artifacts, modality.name)


def contenders(entries: Sequence[Entry]) -> list[Contender]:
    """Each defense setting that has an entry; two files of the same name are two defenses."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        for defense in entry.about.defenses:
            digest = entry.about.files.get(defense.partition(":")[0], "")
            found.setdefault((defense, digest), []).append(entry)
    return [Contender(defense, tuple(own)) for (defense, _), own in found.items()]


def part_lines(known: Sequence[Contender], benchmark: Benchmark) -> pd.DataFrame:
    """One line per defense setting and part of the protocol, in their order.

    Columns, besides those of `reports.leaderboard` (accuracy, change, sent, defense_seconds, by, ...):
        defense, part: with its settings; the name of the part.
        entry: the name of the defense's first entry.
        modality: images or texts.
        victims, leaked: those that leak without a defense, and those of them that leak with it. A batch or a
            sum is one victim.
        observations: how many different examples the victims are of: several draws of weights do not count.
        handed_in: those of `leaked` that no attack has rebuilt whose code is known.
        inputs: those that did not leak, but were rebuilt as they entered the network, after the defense had
            changed them.
        rate, low, high: the share that leaked, and its interval.
        score: the median of SSIM, or of ROUGE-L. All of these are NaN where no trial has a result.
        scores: what the median is of, (observations, draws of weights).
    """
    lines = []
    for each in known:
        about = {"defense": each.defense, "entry": each.entries[0].about.name}
        for part in benchmark.parts:
            setting = each.part(part)
            line = _line(setting, each.defense) if setting else dict.fromkeys(COUNTS, 0)
            lines.append({**about, "part": part, "modality": benchmark.modality(part).name, **line})
    return pd.DataFrame(lines)


def _line(setting: Setting, defense: str) -> dict[str, Any]:
    line = setting.board[setting.board["defense"] == defense].to_dict("records")[0]
    best, rows = counted(setting.best), setting.rows
    own = best[best["defense"] == defense]
    by_code = _by_code(setting, defense)
    scores = own.pivot_table(index="index", columns="model_seed", values=setting.scale.column)
    return {
        **{str(name): value for name, value in line.items()},
        "victims": line["images"],
        "handed_in": int(line["leaked"] - by_code["leaked"].sum()),
        "inputs": int(rebuilt_inputs(rows[rows["defense"] == defense], own, setting.scale).sum()),
        "score_by_code": by_code[setting.scale.column].median(),
        "observations": len(scores),
        **ends("", wilson(line["rate"], len(scores))),
        "score": line[setting.scale.column],
        "scores": scores.to_numpy(),
    }


def _by_code(setting: Setting, defense: str) -> pd.DataFrame:
    """The lines that count of a defense, without what was handed in."""
    best = counted(judged(setting.kept[~handed_in(setting.kept)], setting.scale))
    return best[best["defense"] == defense]


def leaderboard(parts: pd.DataFrame) -> pd.DataFrame:
    """One line per defense setting: no defense, then those of lowest score; from the output of `part_lines`.

    Columns:
        defense, entry: as there.
        victims, leaked, handed_in, inputs, rate, low, high: of all parts with images together.
        score, score_low, score_high: the mean over these parts of the median SSIM, and its interval;
            score_by_code: the mean without what was handed in.
        missing: how many of these parts have no trial with a result. Such a line is below all others: it
            cannot be compared with them.
        accuracy, accuracy_low, accuracy_high, change, change_low, change_high, epsilon: see
            `summarize_utility`.
        sent, defense_seconds: the medians over these parts.
    """
    of_images = parts[parts["modality"] == IMAGES.name]
    grouped = of_images.groupby(["defense", "entry"], sort=False)
    lines = grouped[COUNTS].sum()
    lines["rate"] = lines["leaked"] / lines["victims"]
    intervals = [
        wilson(rate, n) for rate, n in zip(lines["rate"].fillna(0), lines["observations"], strict=True)
    ]
    lines["low"], lines["high"] = zip(*intervals, strict=True)
    lines["score"] = grouped["score"].mean()
    lines["score_by_code"] = grouped["score_by_code"].mean()
    spans = [mean_of_medians([each for each in own["scores"].dropna() if len(each)]) for _, own in grouped]
    lines["score_low"], lines["score_high"] = zip(*spans, strict=True)
    lines["missing"] = grouped["trials"].agg(lambda trials: int(trials.isna().sum()))
    lines = lines.join(grouped[UTILITY].first()).join(grouped[["sent", "defense_seconds"]].median())
    lines = lines.reset_index()
    lines = lines.assign(defended=lines["defense"] != BASELINE, incomplete=lines["missing"] > 0)
    lines = lines.sort_values(["defended", "incomplete", "score"], kind="stable")
    return lines.drop(columns=["defended", "incomplete", "observations"]).reset_index(drop=True)
