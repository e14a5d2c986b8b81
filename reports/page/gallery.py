"""The gallery of the page: what leaked most under each defense, at several steps of the attack."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from leakbench.bench.modalities import IMAGES, Modality
from leakbench.reports.pictures import side_by_side, spread
from leakbench.reports.selection import VICTIM
from leakbench.reports.words import Word, marked, words_of
from leakbench.sweeps.records import Example, StoredTrace
from leakbench.sweeps.store import Store

MOST_FILMS = 240  # on the whole page, so that it stays small enough for a mail
MOST_FRAMES = 8  # per film
LARGEST = 64  # pixels per side; larger pictures are subsampled


@dataclass(frozen=True)
class Film:
    """One image or text, and what the attacker made of it under one defense."""

    defense: str
    index: int
    score: float  # SSIM, or ROUGE-L
    leaked: bool
    original: str  # data URI of a picture, or the words of a text
    frames: str | list[list[Word]]  # one per step: data URI of pictures side by side, or the words of each
    attack: str  # the strongest one
    others: list[tuple[str, float, str | list[list[Word]]]]  # other attacks, their score, their one frame


@dataclass(frozen=True)
class Gallery:
    """The films of one dataset, model and protocol, the worst for the victim first."""

    steps: list[str]  # labels of the frames: `step 30`, and last `end`, what the attacker keeps
    films: list[Film]
    not_shown: int  # images without room on the page


def gallery(
    store: Store,
    best: pd.DataFrame,
    kept: pd.DataFrame,
    defenses: list[str],
    room: int,
    modality: Modality = IMAGES,
) -> Gallery:
    """The images or texts that leaked most under each defense.

    Args:
        store: the run's store.
        best: the rows of one setting, as `strongest` returns them.
        kept: the rows of the same setting for every attack, as `kept_starts` returns them.
        defenses: names, in the order in which they are shown.
        room: the largest number of images to show per defense.
        modality: what they are.
    """
    chosen = pd.concat([best[best["defense"] == each].nlargest(room, modality.leading) for each in defenses])
    rivals = kept.merge(chosen[[*VICTIM, "defense"]], on=[*VICTIM, "defense"])
    traces = store.traces(rivals["key"])
    steps = spread(sorted({step for trace in traces.values() for step in trace.snapshots}), MOST_FRAMES - 1)
    films = list(_films(store, chosen, rivals, traces, steps, modality.leading))
    return Gallery([*(f"step {step}" for step in steps), "end"], films, len(best) - len(films))


def _films(
    store: Store,
    chosen: pd.DataFrame,
    rivals: pd.DataFrame,
    traces: dict[str, StoredTrace],
    steps: list[int],
    score: str,
) -> Iterator[Film]:
    originals = store.originals(zip(chosen["dataset"], chosen["index"], strict=True))
    place, about = [*VICTIM, "defense"], ["key", "attack", score]
    by_place = defaultdict(list)
    for row in rivals[[*place, *about]].to_dict("records"):
        by_place[tuple(row[name] for name in place)].append(row)
    for row in chosen[[*place, *about, "leaked"]].to_dict("records"):
        trace, original = traces.get(row["key"]), originals.get((row["dataset"], row["index"]))
        if trace is not None and original is not None:
            # a trial that ended early keeps its last picture
            frames = [trace.snapshots.get(step, trace.reconstruction)[0] for step in steps]
            others = [
                (each["attack"], each[score], _shown([traces[each["key"]].reconstruction[0]], original))
                for each in by_place[tuple(row[name] for name in place)]
                if each["key"] != row["key"] and each["key"] in traces
            ]
            yield Film(
                row["defense"],
                row["index"],
                row[score],
                bool(row["leaked"]),
                " ".join(words_of(original)) if isinstance(original, str) else data_uri([original]),
                _shown([*frames, trace.reconstruction[0]], original),
                row["attack"],
                others,
            )


def _shown(frames: list[Example], original: Example) -> str | list[list[Word]]:
    """Pictures side by side; or the words of each text, those marked that are not in the original there."""
    if isinstance(original, str):
        return [marked(each, original) for each in frames]
    return data_uri(frames)


def data_uri(pictures: list[np.ndarray]) -> str:
    """Pictures (C, H, W) in [0, 1], side by side, as a PNG in a data URI."""
    content = io.BytesIO()
    side_by_side([_smaller(picture) for picture in pictures]).save(content, "PNG", optimize=True)
    return png_uri(content.getvalue())


def png_uri(content: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _smaller(picture: np.ndarray) -> np.ndarray:
    """A large picture subsampled to at most LARGEST pixels per side."""
    stride = -(-max(picture.shape[1:]) // LARGEST)
    return picture[:, ::stride, ::stride]
