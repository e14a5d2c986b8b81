"""What the page shows of recorded updates."""

from dataclasses import dataclass

import numpy as np

from leakbench.reports.page.gallery import MOST_FILMS, data_uri
from leakbench.reports.recorded import Update, caption, sentences
from leakbench.reports.run import Run

MOST_IMAGES = 8  # of an update that are shown


@dataclass(frozen=True)
class Shown:
    """An update with its pictures."""

    update: Update
    rebuilt: str  # data URI of its images side by side; empty where there are none, or no room
    originals: str  # likewise
    images: int  # in each picture


@dataclass(frozen=True)
class RecordedSection:
    """What came out of the recorded updates of a run."""

    verdict: list[str]  # sentences
    caveats: list[str]  # what may keep the updates from being gradients
    columns: list[str]  # what they mean
    updates: list[Shown]
    known: bool  # whether the true images of any are known
    defenses: bool  # whether there are several


def recorded_section(run: Run) -> RecordedSection | None:
    """The section of a run's recorded updates; None where it has none."""
    updates, scale = run.updates, run.scale
    if not updates:
        return None
    known = any(each.verdict for each in updates)
    return RecordedSection(
        verdict=list(sentences(updates, scale)),
        caveats=list(dict.fromkeys(text for each in run.manifest["recorded"] for text in each["caveats"])),
        columns=list(caption(known, scale)),
        updates=[_shown(each, number < MOST_FILMS) for number, each in enumerate(updates)],
        known=known,
        defenses=len({each.defense for each in updates}) > 1,
    )


def _shown(update: Update, room: bool) -> Shown:
    rebuilt, originals = (each[:MOST_IMAGES] if room else [] for each in (update.rebuilt, update.originals))
    return Shown(update, _uri(rebuilt), _uri(originals), len(rebuilt))


def _uri(pictures: list[np.ndarray]) -> str:
    return data_uri(pictures) if pictures else ""
