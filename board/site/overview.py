"""What the first page of the site shows: the table of all defenses, and how far its order can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leakbench.bench.modalities import TEXTS
from leakbench.board.benchmark import Benchmark
from leakbench.board.draws import Agreement, agreement, by_draw
from leakbench.board.entry import records
from leakbench.board.lines import leaderboard, part_lines
from leakbench.board.site.exhibits import Exhibit
from leakbench.board.site.profile import Profile
from leakbench.reports.selection import BASELINE


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    rank: int | None  # None of the undefended gradient, and of lines that cannot be compared
    profile: Profile
    whole: dict[str, Any]  # see `leaderboard`
    parts: dict[str, dict[str, Any]]  # {part: its line, see `part_lines`}
    sample: dict[str, Exhibit | None]  # {part with images: one victim, the same in every line}


@dataclass(frozen=True)
class Overview:
    """The first page."""

    lines: list[Line]
    originals: dict[str, str]  # {part with images: the original of its sample, a data URI}
    draws: list[Agreement]
    made: str  # the day of the newest entry
    versions: list[str]  # of PyTorch
    hardware: list[str]

    def line(self, slug: str) -> Line:
        """The line of a defense."""
        return next(each for each in self.lines if each.profile.slug == slug)


def overview(benchmark: Benchmark, known: Sequence[Profile]) -> Overview:
    """The first page, from the profiles of all entries."""
    contenders = [each.contender for each in known]
    entries = [entry for each in contenders for entry in each.entries]
    parts = part_lines(contenders, benchmark)
    images = [name for name in benchmark.parts if benchmark.modality(name) is not TEXTS]
    chosen = {name: _sample(name, known) for name in images}
    profile_of = {(each.contender.defense, each.entries[0].about.name): each for each in known}
    lines: list[Line] = []
    for whole in records(leaderboard(parts)):
        profile = profile_of[whole["defense"], whole["entry"]]
        own = parts[(parts["defense"] == whole["defense"]) & (parts["entry"] == whole["entry"])]
        ranked = whole["defense"] != BASELINE and not whole["missing"]
        rank = 1 + sum(each.rank is not None for each in lines) if ranked else None
        sample = {name: _exhibit(profile, name, chosen[name]) for name in images}
        lines.append(Line(rank, profile, whole, {each["part"]: each for each in records(own)}, sample))
    shown = {part: each for line in lines for part, each in line.sample.items() if each}
    return Overview(
        lines,
        {part: each.original for part, each in shown.items()},
        agreement(by_draw(contenders, benchmark)),
        max(each.about.made for each in entries),
        sorted({each.about.versions["torch"] for each in entries}),
        sorted({name for each in entries for name in each.about.hardware}),
    )


def _sample(part: str, known: Sequence[Profile]) -> str:
    """The first victim of a part that leaks without a defense and that has a picture for most defenses."""
    count: dict[str, int] = {}
    for profile in known:
        for each in profile.parts[part].exhibits:
            count[each.name] = count.get(each.name, 0) + (each.counts and bool(each.found))
    return max(count, key=lambda name: count[name], default="")


def _exhibit(profile: Profile, part: str, name: str) -> Exhibit | None:
    return next((each for each in profile.parts[part].exhibits if each.name == name), None)
