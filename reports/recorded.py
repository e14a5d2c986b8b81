"""What attacks made of the updates that a federation recorded, whose images may be unknown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from rich.table import Table

from leakbench.bench.verdicts import Scale
from leakbench.core.words import counted
from leakbench.reports.flags import SMALL_MATCH
from leakbench.reports.names import short_names
from leakbench.reports.selection import VICTIM, strongest
from leakbench.reports.terminal import plain_table, put_below
from leakbench.reports.words import words_of
from leakbench.sweeps.records import Example
from leakbench.sweeps.store import Store

ENLARGED = 4  # times, in the pictures that are written
NO_PROOF = "A better attack may get more."


@dataclass(frozen=True)
class Update:
    """A recorded update, and the best of what the attacks made of it."""

    round: int | None
    client: str
    images: int  # behind it
    defense: str  # put on top of what was recorded
    attack: str  # that came closest; empty: none has a result
    reason: str  # why none has
    of_norm: float  # match loss over the squared norm of the gradient; NaN: the attack read no labels
    labels: list[int]  # that it read, of each image; of a masked text the hidden words
    ssim: float  # the mean over the images, of texts of ROUGE-L; NaN: the truth is unknown
    verdict: str  # from the SSIM; empty: unknown
    rebuilt: list[Example]
    originals: list[Example]  # likewise; empty: unknown
    masked: bool = False  # whether the model was to guess hidden words

    @property
    def name(self) -> str:
        """`round 3, client a`."""
        return self.client if self.round is None else f"round {self.round}, client {self.client}"

    @property
    def labels_read(self) -> str:
        """`3 7`; empty where none were read. Of hidden words, which are in the text, how many."""
        if self.masked and self.labels:
            return counted(len(self.labels), "hidden word")
        return " ".join(map(str, self.labels))

    @property
    def matches(self) -> bool:
        """Whether the gradient of what was rebuilt is, but for little, the recorded one."""
        return self.of_norm <= SMALL_MATCH


def updates_of(
    rows: pd.DataFrame, recorded: Sequence[Mapping[str, Any]], scale: Scale, store: Store
) -> Iterator[Update]:
    """Each update, under each defense; of several models each by itself.

    With the truth known, the attack of highest score counts, and otherwise the one that an attacker would
    choose: see `strongest`.

    Args:
        rows: of recorded updates.
        recorded: who sent them: see `sweeps.recorded.recorded_in`.
        scale: what counts as a leak.
        store: of the run.
    """
    if rows.empty:
        return
    senders = {(own["dataset"], each["index"]): each for own in recorded for each in own["updates"]}
    best = strongest(rows, scale)
    kept = best.set_index([*VICTIM, "defense"]).to_dict("index")
    traces = store.traces(best["key"])
    originals = _originals(rows, store)
    lines = []
    for place, own in rows.groupby([*VICTIM, "defense"], sort=False):
        sender = senders.get((own["dataset"].iloc[0], own["index"].iloc[0]), {})
        lines.append((sender, own.iloc[0], kept.get(place)))
    for sender, first, row in sorted(lines, key=lambda line: _place(line[0])):
        trace = traces.get(row["key"]) if row else None
        rebuilt = [] if trace is None else list(trace.reconstruction)
        ssim = nan if row is None else row[scale.column]
        places = [(first["dataset"], first["index"] + number) for number in range(len(rebuilt))]
        yield Update(
            round=sender.get("round"),
            client=sender.get("client", f"update {first['index']}"),
            images=sender.get("images", len(rebuilt)),
            defense=first["defense"],
            attack=row["attack"] if row else "",
            reason="" if row else first["reason"],
            of_norm=_of_norm(row) if row else nan,
            labels=[] if trace is None else list(trace.labels),
            ssim=ssim,
            verdict="" if isnan(ssim) else scale.verdict(ssim).value,
            rebuilt=rebuilt,
            originals=[originals[each] for each in places if each in originals],
            masked=row is not None and row["classes"] != json.loads(row["dataset_settings"])["classes"],
        )


def _originals(rows: pd.DataFrame, store: Store) -> dict[tuple[str, int], Example]:
    """The true images that are known, by dataset and index."""
    counts = rows["protocol_settings"].map(lambda text: json.loads(text)["batch_size"])
    victims = zip(rows["dataset"], rows["index"], counts, strict=True)
    places = {(name, index + number) for name, index, count in victims for number in range(count)}
    return store.originals(places)


def _place(sender: Mapping[str, Any]) -> tuple[int, str]:
    return sender.get("round") or 0, sender.get("client", "")


def _of_norm(row: Mapping[Any, Any]) -> float:
    loss, norm = row["match_loss"], row["shared_norm"]
    return nan if pd.isna(loss) or not norm else float(loss / norm**2)


def sentences(updates: Sequence[Update], scale: Scale) -> Iterator[str]:
    """What came out of all of them, for each defense by itself."""
    defenses = list(dict.fromkeys(each.defense for each in updates))
    for defense in defenses:
        own = [each for each in updates if each.defense == defense]
        for text in _of_defense(own, scale):
            yield f"{defense}: {text}" if len(defenses) > 1 else text


def _of_defense(updates: Sequence[Update], scale: Scale) -> Iterator[str]:
    measured = [each for each in updates if each.attack]
    known = [each for each in measured if each.verdict]
    unknown = [each for each in measured if not each.verdict]
    if known:
        leaked = sum(each.ssim >= scale.leak for each in known)
        were = "was" if 1 in (leaked, len(known)) else "were"
        least = f"{scale.title} {scale.leak:g} or more"
        yield f"{leaked} of {_updates(known)} {were} rebuilt ({least}). {NO_PROOF}"
    if unknown:
        matched = sum(each.matches for each in unknown)
        name = scale.modality.name
        yield (
            f"For {matched} of {_updates(unknown)}, the {name} that an attack found match the gradient (match"
            f" loss at most {SMALL_MATCH:g} of its squared norm). The true {name} are unknown, and others may"
            f" match, too, so these numbers do not say whether they were rebuilt. {NO_PROOF}"
        )
    if len(measured) < len(updates):
        yield f"{len(updates) - len(measured)} of {_updates(updates)} could not be attacked."


def _updates(updates: Sequence[Update]) -> str:
    return f"{len(updates)} update{'s' * (len(updates) != 1)}"


def updates_table(updates: Sequence[Update], scale: Scale) -> Table:
    """One line per update: how close the attacks came."""
    known = any(each.verdict for each in updates)
    names = short_names(each.defense for each in updates)
    several = len(names) > 1
    heads = [scale.modality.name, *(["defense"] if several else []), "closest", "of norm", "labels"]
    table = plain_table(None, [*heads, *([scale.title, "verdict"] if known else [])], first="update")
    for each in updates:
        defense = [names[each.defense]] if several else []
        scores = [_number(each.ssim, ".3f"), each.verdict or "unknown"] if known else []
        cells = [each.attack or "error", _number(each.of_norm, ".2g"), each.labels_read or "-", *scores]
        table.add_row(each.name, str(each.images), *defense, *cells)
    put_below(table, "\n".join(caption(known, scale)))
    return table


def caption(known: bool, scale: Scale) -> Iterator[str]:
    """What the columns mean."""
    yield (
        f"closest: the attack of highest {scale.title}"
        if known
        else "closest: the most likely result of all attacks, given the gradient"
    )
    match = f"at most {SMALL_MATCH:g}: the gradients match"
    yield f"of norm: its match loss over the squared norm of the gradient; {match}"
    if known:
        yield f"verdict: leak from {scale.title} {scale.leak:g} on, artifacts from {scale.artifacts:g} on"


def _number(value: float, form: str) -> str:
    return "-" if isnan(value) else format(value, form)


def found_words(updates: Sequence[Update]) -> Iterator[str]:
    """`round 3, client a: the words`, a line for each text that was rebuilt; nothing of images."""
    several = len({each.defense for each in updates}) > 1
    for each in updates:
        under = f", {each.defense}" if several else ""
        for text in each.rebuilt:
            if isinstance(text, str):
                yield f"{each.name}{under}: {' '.join(words_of(text))}"


def write_pictures(updates: Sequence[Update], folder: Path) -> list[Path]:
    """Write what was rebuilt of each update, each image or text after its original where that is known.

    Images are written as a PNG, texts as lines of words.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = _file_names(updates)
    return [
        _write(pictures(each), folder, name)
        for each, name in zip(updates, names, strict=True)
        if each.rebuilt
    ]


def pictures(update: Update) -> list[Example]:
    """What was rebuilt, each image or text after its original where that is known."""
    if len(update.originals) < len(update.rebuilt):
        return update.rebuilt
    return [each for pair in zip(update.originals, update.rebuilt, strict=True) for each in pair]


def _write(shown: list[Example], folder: Path, name: str) -> Path:
    if isinstance(shown[0], str):
        path = folder / f"{name}.txt"
        path.write_text("".join(f"{' '.join(words_of(text))}\n" for text in shown), encoding="utf-8")
        return path
    from leakbench.reports.pictures import side_by_side  # brings in matplotlib: a second

    image, path = side_by_side(shown), folder / f"{name}.png"
    size = image.width * ENLARGED, image.height * ENLARGED
    image.resize(size, Image.Resampling.NEAREST).save(path)
    return path


def _file_names(updates: Sequence[Update]) -> list[str]:
    """`round-3-a`, with a number where two updates have the same."""
    plain = [each.client if each.round is None else f"round-{each.round}-{each.client}" for each in updates]
    return [name if plain.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(plain)]
