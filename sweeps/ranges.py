"""Whole numbers as a sweep file has them: 3, "0-19", [0, 5, 7]."""

import re
from typing import Any

LARGEST = 9_999_999  # of an index or a seed
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+))?\s*")


def parse_ranges(value: Any) -> tuple[int, ...]:
    """Whole numbers >= 0 from 5, "0-19", "0-4,7" or a list of such.

    Raises:
        ValueError: whose text says what was expected.
    """
    spans = [span for each in (value if isinstance(value, list) else [value]) for span in _spans(each)]
    if not spans or not all(0 <= first <= last <= LARGEST for first, last in spans):
        expected = f'expected whole numbers in 0..{LARGEST} such as 3, "0-19" or [0, 5, 7]'
        raise ValueError(f"{expected}, got {shown(value)}")
    return tuple(number for first, last in spans for number in range(first, last + 1))


def _spans(value: Any) -> list[tuple[int, int]]:
    """The (first, last) pairs of one number or text; a pair out of order if it is neither."""
    if type(value) is int:
        return [(value, value)]
    matches = [_RANGE.fullmatch(part) for part in value.split(",")] if isinstance(value, str) else [None]
    return [(int(m[1]), int(m[2] or m[1])) if m else (1, 0) for m in matches]


def shown(value: Any) -> str:
    """A value of a file for a message, which has to stay on one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
