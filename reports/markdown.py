"""A table for a Markdown file."""

from collections.abc import Iterable, Iterator, Sequence


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table for a Markdown file, line by line."""
    for line in (heads, ["---"] * len(heads), *lines):
        yield f"| {' | '.join(line)} |"
