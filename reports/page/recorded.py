"""What the page shows of recorded updates."""

from dataclasses import dataclass

from leakbench.reports.page.gallery import MOST_FILMS
from leakbench.reports.page.shown import Frames, data_uri
from leakbench.reports.recorded import Update, caption, sentences
from leakbench.reports.run import Run
from leakbench.reports.words import marked
from leakbench.sweeps.records import Example

MOST_IMAGES = 8  # of an update that are shown


@dataclass(frozen=True)
class Shown:
    """An update with its pictures, or its texts."""

    update: Update
    rebuilt: Frames  # data URI of its images side by side, or the words of its texts; empty
    originals: Frames  # where there are none, or no room
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
    truths = originals if len(originals) == len(rebuilt) else rebuilt  # unknown: nothing is marked
    return Shown(update, _shown_of(rebuilt, truths), _shown_of(originals, originals), len(rebuilt))


def _shown_of(examples: list[Example], truths: list[Example]) -> Frames:
    if not examples:
        return ""
    if isinstance(examples[0], str):
        return [marked(each, truth) for each, truth in zip(examples, truths, strict=True)]
    return data_uri(examples)
