"""The chart of what defenses hide and what they cost, as lines and points of an SVG picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isnan

import pandas as pd

from leakbench.board.site.overview import Line
from leakbench.reports.figures.tradeoff import pareto

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 704, 16, 366
FLOOR = -20.0  # points of accuracy; what costs more is drawn there


@dataclass(frozen=True)
class Tick:
    """A value on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A defense."""

    name: str
    slug: str
    rank: int | None
    change: float  # of accuracy, in points
    score: float
    x: float
    y: float
    low: float  # the ends of the change's interval
    high: float
    best: bool  # whether no other defense beats it in both


@dataclass(frozen=True)
class Chart:
    """All of it, in the units of the picture."""

    points: list[Point]
    across: list[Tick]
    up: list[Tick]
    front: str  # the corners of the line through the best
    floor: int = -int(FLOOR)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def chart(lines: Sequence[Line]) -> Chart:
    """One point per line that has an accuracy and a score; the undefended one has a change of 0."""
    known = [each for each in lines if not isnan(each.whole["accuracy"]) and not isnan(each.whole["score"])]
    values = pd.DataFrame(
        {
            "accuracy": [_change(each) for each in known],
            "score": [each.whole["score"] for each in known],
        }
    )
    best = set(pareto(values, "score").index)
    least = max(FLOOR, min([*values["accuracy"], 0.0]))
    most = max([*values["accuracy"], 0.0])
    scale = _Scale(floor(least) - 1, ceil(most) + 1)
    points = [_point(each, number in best, scale) for number, each in enumerate(known)]
    step = 5 if scale.most - scale.least > 8 else 1
    ticks = range(step * ceil(scale.least / step), floor(scale.most) + 1, step)
    return Chart(
        points,
        [Tick(scale.x(each), f"{each:+d}" if each else "0") for each in ticks],
        [Tick(_y(each / 5), f"{each / 5:.1f}") for each in range(6)],
        _corners([each for each in points if each.best]),
    )


@dataclass(frozen=True)
class _Scale:
    least: float
    most: float

    def x(self, change: float) -> float:
        share = (max(change, self.least) - self.least) / (self.most - self.least)
        return round(LEFT + share * (RIGHT - LEFT), 1)


def _y(score: float) -> float:
    return round(BOTTOM - min(max(score, 0.0), 1.0) * (BOTTOM - TOP), 1)


def _change(line: Line) -> float:
    change = line.whole["change"]
    return 0.0 if isnan(change) else 100 * float(change)


def _point(line: Line, best: bool, scale: _Scale) -> Point:
    change, score = _change(line), float(line.whole["score"])
    low, high = (
        change if isnan(line.whole[f"change_{end}"]) else 100 * line.whole[f"change_{end}"]
        for end in ("low", "high")
    )
    place = scale.x(change), _y(score), scale.x(low), min(scale.x(high), RIGHT)
    return Point(line.profile.short, line.profile.slug, line.rank, change, score, *place, best)


def _corners(points: Sequence[Point]) -> str:
    """Steps from one point to the next: left of a point, nothing hides more for less."""
    corners: list[str] = []
    for point in sorted(points, key=lambda each: each.x):
        if corners:
            corners.append(f"{corners[-1].split(',')[0]},{point.y}")
        corners.append(f"{point.x},{point.y}")
    return " ".join(corners)
