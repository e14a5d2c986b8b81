"""Durations and counts in words."""

import math
import re
from typing import Any

LONGEST = 9_999_999  # s: 115 days
_NAMES = {
    1: "s sec secs second seconds",
    60: "m min mins minute minutes",
    3600: "h hour hours",
    86400: "d day days",
}
_UNITS = {name: seconds for seconds, names in _NAMES.items() for name in names.split()}
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")


def in_words(seconds: float) -> str:
    """A duration as text: `1 h 52 min`, `3 min 20 s`, `45 s`, `0.4 s`."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {whole % 60} s"
    return f"{whole if seconds >= 1 else round(seconds, 1):g} s"


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def in_seconds(duration: Any) -> float:
    """The seconds of `1h30m`, `10 min` or `90 s`; a plain number counts seconds.

    Raises:
        ValueError: it is not a duration, is negative or is longer than LONGEST.
    """
    seconds = _sum(duration.lower()) if isinstance(duration, str) else duration
    if type(seconds) not in (int, float) or not 0 <= seconds <= LONGEST:
        raise ValueError(f"expected a duration such as 90 s, 10 min or 1h30m, in 0..{LONGEST} s")
    return float(seconds)


def _sum(text: str) -> float:
    """The sum of all parts of a text, in seconds; NaN if it is not a duration."""
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text):
        return math.nan
    return sum(float(number) * _UNITS.get(unit, math.nan) for number, unit in parts)
