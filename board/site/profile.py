"""What the site says of one defense."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbench.bench.modalities import IMAGES
from leakbench.board.benchmark import Benchmark
from leakbench.board.entry import Entry
from leakbench.board.lines import Contender
from leakbench.board.site.exhibits import Exhibit, by_attack, exhibits
from leakbench.reports.flags import Raised
from leakbench.reports.names import short_names
from leakbench.reports.selection import with_result
from leakbench.reports.setting import Setting


@dataclass(frozen=True)
class Part:
    """A part of the protocol: what leaked in it."""

    name: str
    texts: bool  # or images
    exhibits: list[Exhibit]  # empty where no trial has a result
    attacks: list[dict[str, Any]]  # see `by_attack`
    raised: list[Raised]
    reasons: dict[str, int]  # why trials failed, and how many


@dataclass(frozen=True)
class Profile:
    """One defense with its settings."""

    contender: Contender
    slug: str  # the name of its page
    short: str  # its name without a file
    parts: dict[str, Part]  # {name: part}

    @property
    def entries(self) -> Sequence[Entry]:
        """All that are about it; the first is that of the defense itself."""
        return self.contender.entries

    @property
    def paper(self) -> str:
        """Where the defense is described; may be empty."""
        return self.entries[0].about.paper

    @property
    def code(self) -> dict[str, str]:
        """{name: content} of the authors' own files."""
        return {
            f"{entry.about.name}/{name}": (entry.folder / name).read_text(encoding="utf-8")
            for entry in self.entries
            for name in entry.about.files
            if name.endswith(".py")
        }


def profiles(known: Sequence[Contender], benchmark: Benchmark, data_root: Path) -> list[Profile]:
    """One per defense setting, in their order."""
    names = short_names(each.defense for each in known)
    return [
        Profile(each, _slug(each), names[each.defense], dict(_parts(each, benchmark, data_root)))
        for each in known
    ]


def _slug(contender: Contender) -> str:
    """The name of the entry, numbered if it is of several settings."""
    about = contender.entries[0].about
    if len(about.defenses) == 1:
        return about.name
    return f"{about.name}-{1 + about.defenses.index(contender.defense)}"


def _parts(contender: Contender, benchmark: Benchmark, data_root: Path) -> Iterator[tuple[str, Part]]:
    for name in benchmark.parts:
        rows = contender.trials[contender.trials["part"] == name]
        own = rows[rows["defense"] == contender.defense]
        failed = own.drop(with_result(own).index)["reason"].value_counts()
        reasons = {str(reason): int(count) for reason, count in failed.items()}
        texts, setting = benchmark.modality(name) is not IMAGES, contender.part(name)
        if setting is None:
            yield name, Part(name, texts, [], [], [], reasons)
            continue
        best = setting.best[setting.best["defense"] == contender.defense]
        yield (
            name,
            Part(
                name,
                texts,
                list(exhibits(contender, setting, data_root)),
                by_attack(best),
                _flags(setting, contender.defense),
                reasons,
            ),
        )


def _flags(setting: Setting, defense: str) -> list[Raised]:
    return [each for each in setting.raised if each.defense == defense]
