"""Found texts below the true one, word below word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.collections import LineCollection
from matplotlib.font_manager import findfont, get_font

from leakbench.reports.pictures import Sheet
from leakbench.reports.style import DPI
from leakbench.reports.words import Word, marked, words_of

FONT = "DejaVu Sans Mono"  # comes with matplotlib
LETTER = 10 / DPI  # inches from one letter to the next: whole dots, since a PNG has no others
SIZE = 72 * LETTER * 2048 / 1233  # points, at which the font's letters are that wide
LINE, GAP = 0.15, 0.1  # inches from one line to the next; between lines that continue each other, besides
MOST_LETTERS = 84  # of a line; longer texts are wrapped
MOST_BELOW = 3  # found words below one true word
LONGEST = 28  # letters of a word: longer ones, of pieces that make no sense, end with an ellipsis
WRONG = "#B3261E"  # wrong words are underlined, too: in grey, they are as dark as the others
MARGIN = 0.1  # inches
NOTE = 0.95  # inches for what is at the end of a line


@dataclass(frozen=True)
class Line:
    """A found text."""

    name: str  # at its beginning
    found: str  # as it is stored
    note: str = ""  # at its end


@dataclass(frozen=True)
class Group:
    """A true text and what was found of it."""

    title: str
    truth: str  # as it is stored
    lines: Sequence[Line]


def draw_groups(caption: str, groups: Sequence[Group]) -> Sheet:
    """One group below the other: the true text on top, and each word of the found ones below its place."""
    names = [line.name for group in groups for line in group.lines]
    left = MARGIN + LETTER * (1 + max(map(len, ["original", *names])))
    parts = [list(_parts(group)) for group in groups]
    letters = max(sum(part.widths) for own in parts for part in own)
    lines = sum((1 + len(group.lines)) * len(own) + 2 for group, own in zip(groups, parts, strict=True))
    gaps = GAP * sum(map(len, parts))
    sheet = Sheet(left + letters * LETTER + NOTE, 0.35 + lines * LINE + gaps)
    sheet.write(caption, sheet.width / 2, 0.06, 9, va="top")
    down = 0.35
    for group, own in zip(groups, parts, strict=True):
        down += LINE
        sheet.write(group.title, MARGIN, down, 8, ha="left", va="center", fontweight="bold", parse_math=False)
        for part in own:
            down += LINE
            _write(sheet, "original", MARGIN, down)
            _write(sheet, part.row(part.truth), left, down)
            for number, line in enumerate(group.lines):
                down += LINE
                _write(sheet, line.name, MARGIN, down)
                _write_found(sheet, part, number, left, down)
                if part is own[-1]:
                    _write(sheet, line.note, sheet.width - MARGIN, down, ha="right")
            down += GAP
        down += LINE
    return sheet


@dataclass(frozen=True)
class _Part:
    """As many words of a true text as have room side by side, and what is below them."""

    truth: list[str]
    below: list[list[list[Word]]]  # for each line for each word of the truth
    widths: list[int]  # of each word, in letters, with the space to the next

    def row(self, cells: Sequence[str]) -> str:
        """The line of these cells, each with its width."""
        return "".join(cell.ljust(width) for cell, width in zip(cells, self.widths, strict=True)).rstrip()


def _parts(group: Group) -> Iterator[_Part]:
    truth = [_shown(word) for word in words_of(group.truth)]
    cells = [_below(marked(line.found, group.truth), len(truth)) for line in group.lines]
    columns = max(map(len, cells))
    truth += [""] * (columns - len(truth))
    cells = [own + [[]] * (columns - len(own)) for own in cells]
    widths = [
        1 + max(len(word), *(len(_text(own[place])) for own in cells)) for place, word in enumerate(truth)
    ]
    for first, end in _ranges(widths):
        yield _Part(truth[first:end], [own[first:end] for own in cells], widths[first:end])


def _below(words: Sequence[Word], count: int) -> list[list[Word]]:
    """The found words below each of so many true ones; those without room below theirs are below the next."""
    cells: list[list[Word]] = [[] for _ in range(count)]
    place = 0
    for word in words:
        place = max(place, word.place)
        place += place < len(cells) and len(cells[place]) == MOST_BELOW
        if place == len(cells):
            cells.append([])
        cells[place].append(word)
    return cells


def _ranges(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Where each line begins and ends: in as few lines as have room, which are about as long."""
    fewest = len(_filled(widths, MOST_LETTERS))
    even = range(-(-sum(widths) // fewest), MOST_LETTERS)
    return next(
        (own for most in even if len(own := _filled(widths, most)) == fewest), _filled(widths, MOST_LETTERS)
    )


def _filled(widths: Sequence[int], most: int) -> list[tuple[int, int]]:
    first, ranges = 0, []
    for end in range(1, len(widths) + 1):
        if end == len(widths) or sum(widths[first : end + 1]) > most:
            ranges.append((first, end))
            first = end
    return ranges


def _text(words: Sequence[Word]) -> str:
    return " ".join(_shown(word.text) for word in words)


def _shown(word: str) -> str:
    """A word that can be drawn: with a box in place of each letter that the font does not have."""
    known = get_font(findfont(FONT)).get_charmap()
    drawn = "".join(letter if ord(letter) in known else "\u25a1" for letter in word)
    return drawn if len(drawn) <= LONGEST else f"{drawn[: LONGEST - 1]}…"


def _write_found(sheet: Sheet, part: _Part, number: int, left: float, down: float) -> None:
    """A line of found words in two colours, each colour at once: single words take a second a figure."""
    cells, begin = part.below[number], 0
    right: list[tuple[int, str]] = []
    wrong: list[tuple[int, str]] = []
    rules = []
    for words, width in zip(cells, part.widths, strict=True):
        place = begin
        for word in words:
            text = _shown(word.text)
            (right if word.right else wrong).append((place, text))
            if not word.right:
                ends = (left + each * LETTER for each in (place, place + len(text)))
                rules.append([(end, down + 0.058) for end in ends])
            place += len(text) + 1
        begin += width
    _write(sheet, _spaced(right), left, down)
    _write(sheet, _spaced(wrong), left, down, color=WRONG)
    sheet.panel.add_collection(LineCollection(rules, colors=WRONG, linewidths=0.8))


def _spaced(words: Sequence[tuple[int, str]]) -> str:
    """Each word at its place in a line."""
    line = ""
    for place, text in words:
        line = line.ljust(place) + text
    return line


def _write(sheet: Sheet, text: str, x: float, y: float, **options: str) -> None:
    about = {"ha": "left", "va": "center_baseline", "family": FONT, **options}
    sheet.write(text, x, y, SIZE, parse_math=False, **about)
