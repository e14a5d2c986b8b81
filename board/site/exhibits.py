"""What the strongest attack found of each victim, next to what was there."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.bench.trial import spec_of
from leakbench.board.entry import pixels_of, records
from leakbench.board.lines import Contender
from leakbench.reports.page.shown import data_uri
from leakbench.reports.selection import VICTIM
from leakbench.reports.setting import Setting
from leakbench.reports.words import Word, marked, words_of


@dataclass(frozen=True)
class Exhibit:
    """One victim: an image, a batch of images, or a text."""

    name: str  # `image 3, weights 1`
    original: str  # data URI, the images of a batch side by side; or the words
    found: str | list[Word]  # likewise; empty: the entry has no picture of it
    score: float  # SSIM, or ROUGE-L
    leaked: bool
    counts: bool  # whether it leaks without a defense
    attack: str  # the strongest one


def exhibits(contender: Contender, setting: Setting, data_root: Path) -> Iterator[Exhibit]:
    """The victims of a part, in the order of their indices.

    Args:
        contender: the defense.
        setting: its rows of that part.
        data_root: folder of the datasets that are not bundled.
    """
    pictures = {key: each for entry in contender.entries for key, each in entry.pictures.items()}
    best = setting.best[setting.best["defense"] == contender.defense].sort_values(VICTIM)
    draws = best["model_seed"].nunique() > 1
    for row in records(best):
        truth = originals(row["dataset"], row["protocol"], row["model"], row["index"], data_root)
        picture = pictures.get(row["key"])
        yield Exhibit(
            _name(row, len(truth), draws, setting.scale.modality.one),
            " ".join(words_of(truth[0])) if isinstance(truth[0], str) else data_uri(list(truth)),
            _shown(picture, truth) if picture else "",
            float(row[setting.scale.column]),
            bool(row["leaked"]),
            bool(row["attackable"]),
            row["attack"],
        )


def _name(row: dict[str, Any], count: int, draws: bool, one: str) -> str:
    first = row["index"]
    name = f"{one} {first}" if count == 1 else f"{one}s {first} to {first + count - 1}"
    return f"{name}, weights {row['model_seed']}" if draws else name


def _shown(picture: dict[str, Any], truth: tuple[Any, ...]) -> str | list[Word]:
    if picture["texts"] is not None:
        words: list[Word] = marked(picture["texts"][0], truth[0])
        return words
    return data_uri(list(pixels_of(picture)))


@cache
def originals(dataset: str, protocol: str, model: str, index: int, data_root: Path) -> tuple[Any, ...]:
    """The true examples of a victim: images (C, H, W), or texts as pieces with spaces between them."""
    source, party = open_dataset(DATASETS.parse(dataset), data_root), PROTOCOLS.parse(protocol)
    truth, _ = source.batch(range(index, index + party.images))
    texts = source.modality.texts(truth, spec_of(source, party, MODELS.parse(model)))
    return tuple(texts) or tuple(truth.numpy())


def by_attack(best: pd.DataFrame) -> list[dict[str, Any]]:
    """How often each attack was the strongest, and what it knew; of the lines of one defense."""
    known = best[["attack", "threat"]].value_counts(sort=True).reset_index(name="count")
    return records(known)
