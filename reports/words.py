"""Found texts compared with the true ones, word by word."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from leakbench.bench.vocabulary import SPECIAL

HIDDEN = frozenset(SPECIAL) - {"[UNK]"}  # pieces that are no part of a text


@dataclass(frozen=True)
class Word:
    """A word of a found text."""

    text: str
    right: bool  # whether the true text has it there
    place: int  # which word of the true text it is below


def words_of(text: str) -> list[str]:
    """The words of a stored text: its pieces put together, without special ones."""
    pieces = text.split()
    return [_joined(pieces, own) for own in _grouped(pieces)]


def marked(found: str, truth: str) -> list[Word]:
    """The words of a found text, each compared with what the true text has at its place.

    That is position by position if both have the same number of pieces. Otherwise pieces that both have in
    the same order are at the same place. A word is right if all its pieces are, and if they are a whole word.
    """
    own, true = found.split(), truth.split()
    pairs, whole = _pairs(own, true), _grouped(true)
    word_at = _word_at(true)
    places = [place for place, _ in pairs]
    if len(own) != len(true) and 2 * sum(same for _, same in pairs) < len(own):
        places = [min(number, len(true) - 1) for number in range(len(own))]  # too few to go by
    return [
        Word(
            text=_joined(own, word),
            right=all(pairs[piece][1] for piece in word) and [pairs[piece][0] for piece in word] in whole,
            place=word_at[places[word[0]]],
        )
        for word in _grouped(own)
    ]


def _pairs(own: Sequence[str], true: Sequence[str]) -> list[tuple[int, bool]]:
    """For each own piece the index of the true one at its place, and whether they are the same."""
    if len(own) == len(true):
        return [(place, one == other) for place, (one, other) in enumerate(zip(own, true, strict=True))]
    pairs: list[tuple[int, bool]] = []
    alike = SequenceMatcher(None, own, true, autojunk=False)
    for kind, first, end, place, last in alike.get_opcodes():
        # those that are too many are at the place of the last one
        places = (max(min(each, last - 1), 0) for each in range(place, place + end - first))
        pairs += [(each, kind == "equal") for each in places]
    return pairs


def _grouped(pieces: Sequence[str]) -> list[list[int]]:
    """The indices of the pieces of each word."""
    words: list[list[int]] = []
    for number, piece in enumerate(pieces):
        if piece.startswith("##") and words:
            words[-1].append(number)
        elif piece not in HIDDEN:
            words.append([number])
    return words


def _word_at(pieces: Sequence[str]) -> list[int]:
    """For each piece the index of its word; of a special one that of the word before."""
    begins = {word[0] for word in _grouped(pieces)}
    places, place = [], -1
    for number in range(len(pieces)):
        place += number in begins
        places.append(max(place, 0))
    return places


def _joined(pieces: Sequence[str], word: Sequence[int]) -> str:
    first, *others = (pieces[number] for number in word)
    return first + "".join(piece.removeprefix("##") for piece in others)
