"""What the page shows, computed from the stored rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from leakbench.bench.modalities import Modality
from leakbench.bench.verdicts import Verdict
from leakbench.defenses import DEFENSES
from leakbench.reports.comparison import Accuracies, Outcome, Standing, standings
from leakbench.reports.figures import Drawn
from leakbench.reports.flags import Raised
from leakbench.reports.labels import labels_of_hidden
from leakbench.reports.leaderboard import describe_trainings
from leakbench.reports.names import title
from leakbench.reports.page.gallery import MOST_FILMS, Gallery, gallery
from leakbench.reports.page.shown import png_uri
from leakbench.reports.run import Run
from leakbench.reports.selection import BASELINE
from leakbench.reports.utility import is_private

OUTCOME_TEXTS = {  # the verdict on new defenses, the best first
    Outcome.AHEAD: "hides more than any known defense of similar accuracy",
    Outcome.BOTH_HIDE: "nothing leaks, but a known defense of similar accuracy also leaks nothing",
    Outcome.ALONE: "no known defense is as accurate",
    Outcome.EQUAL: "the difference from the best known defense of similar accuracy may be chance",
    Outcome.COSTS_MORE: "nothing leaks, but a known defense that also leaks nothing is more accurate",
    Outcome.BEHIND: "hides less than a known defense of similar accuracy",
    Outcome.NO_RESULT: Outcome.NO_RESULT.value,
    Outcome.TOO_FEW: "too few results on images that leak without a defense to tell",
}


@dataclass(frozen=True)
class Section:
    """Everything about one dataset, model and protocol."""

    title: str
    verdict: list[str]  # sentences
    standings: list[str]  # one line per new defense
    trained: str  # how the accuracies were measured; empty if nothing was trained
    private: bool  # whether an epsilon follows from a training's settings
    lines: list[dict[str, Any]]  # see `leaderboard`
    alone: pd.DataFrame  # see `attacks_alone`: row per defense, column per attack; empty for one attack
    raised: list[Raised]
    gallery: Gallery
    figures: dict[str, str]  # {what it shows: data URI}


def sections(run: Run, drawn: Sequence[Drawn], names: Mapping[str, str]) -> Iterator[Section]:
    """The sections of a run with its figures, in the order of its tables in the terminal."""
    for number, setting in enumerate(run.settings):
        lines, trained, modality = setting.board, setting.trainings, setting.scale.modality
        new = list(lines["defense"][lines["defense_name"].map(is_new)])
        found = list(standings(setting.rows, setting.best, trained, setting.scale, new))
        yield Section(
            title(setting.rows),
            list(sentences(lines, found, Accuracies(trained), names, modality)),
            [each.describe(names) for each in found],
            describe_trainings(trained),
            is_private(trained),
            lines.to_dict("records"),  # type: ignore[arg-type]
            setting.alone if setting.several else pd.DataFrame(),
            setting.raised,
            gallery(run.store, setting, MOST_FILMS // len(run.settings)),
            dict(_figures(drawn, number)),
        )


def is_new(name: str) -> bool:
    """Whether a defense comes from a user's file or another package."""
    return name not in DEFENSES.members


def sentences(
    lines: pd.DataFrame,
    found: Sequence[Standing],
    accuracies: Accuracies,
    names: Mapping[str, str],
    modality: Modality,
) -> Iterator[str]:
    """The verdict in words: how much leaks undefended, which defenses hide the images, which labels leak."""
    if BASELINE not in set(lines["defense"]):
        yield "No attack on an undefended gradient has ended yet, so nothing can be said about any defense."
        return
    baseline = lines.set_index("defense").loc[BASELINE].to_dict()
    yield (
        f"Without a defense, {baseline['leaked']} of {baseline['images']} {modality.name} leak"
        f" ({baseline['low']:.0%} to {baseline['high']:.0%})."
    )
    if not baseline["leaked"]:
        yield "So nothing can be said about any defense."
    elif found:
        for outcome, text in OUTCOME_TEXTS.items():
            alike = [names[each.defense] for each in found if each.outcome == outcome]
            if alike:
                yield f"{', '.join(alike)}: {modality.said(text)}."
    else:
        yield from _who_hides(lines, accuracies, names)
    labels = labels_of_hidden(lines, names, modality)
    if labels:
        yield f"{labels[0].upper()}{labels[1:]}."


def _who_hides(lines: pd.DataFrame, accuracies: Accuracies, names: Mapping[str, str]) -> Iterator[str]:
    others = lines[lines["defense"] != BASELINE]
    hiding = others[others["verdict"] == Verdict.NONE]
    if hiding.empty:
        yield "No defense hides them."
        return
    who = ", ".join(names[each] for each in hiding["defense"])
    yield f"Defenses that hide them ({len(hiding)} of {len(others)}): {who}."
    trained = hiding.dropna(subset="accuracy").sort_values("accuracy", ascending=False)
    if len(trained):
        best, *rest = map(str, trained["defense"])
        text = f"The most accurate of these is {names[best]}, {accuracies.of(best)}"
        near = [names[each] for each in rest if not accuracies.lead(best, each).interval.low > 0]
        yield text + (f"; its lead over {', '.join(near)} may be chance." if near else ".")


def _figures(drawn: Sequence[Drawn], number: int) -> Iterator[tuple[str, str]]:
    for figure in drawn:
        if figure.setting == number and figure.caption:
            yield figure.caption, png_uri(figure.paths[0].read_bytes())
