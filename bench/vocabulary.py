"""The word pieces of a language model, and how a text is cut into them: WordPiece, as BERT has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from gzip import decompress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from leakbench.core.configured import SettingError

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer

FILE = "bert_vocabulary.txt.gz"  # of `bench/embedded`
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSTALL = "pip install -e '.[text]'"


@dataclass(frozen=True, eq=False)  # comparing 30,000 pieces takes long, and each is made once
class Vocabulary:
    """Word pieces by id; a piece that continues a word begins with `##`."""

    pieces: tuple[str, ...]
    path: str = ""  # of the file that they are from; empty: BERT's

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def ids(self) -> dict[str, int]:
        """{piece: id}."""
        return {piece: number for number, piece in enumerate(self.pieces)}

    @property
    def pad(self) -> int:
        """The id that fills up shorter texts."""
        return self.ids["[PAD]"]

    @property
    def mask(self) -> int:
        """The id that stands for a word to be guessed."""
        return self.ids["[MASK]"]

    @property
    def begin(self) -> int:
        """The id at the beginning of a text."""
        return self.ids["[CLS]"]

    @property
    def end(self) -> int:
        """The id at the end of a text."""
        return self.ids["[SEP]"]

    @property
    def unknown(self) -> int:
        """The id that stands for a word that is not known."""
        return self.ids["[UNK]"]

    @cached_property
    def special(self) -> frozenset[int]:
        """The ids that are no part of a text."""
        return frozenset(self.ids[piece] for piece in SPECIAL if piece != "[UNK]")

    def encode(self, text: str, longest: int | None = None) -> list[int]:
        """The ids of a text, `[CLS]` at its beginning and `[SEP]` at its end.

        Args:
            text: in any case; letters become small ones without accents.
            longest: cut texts of more ids, as BERT's tokenizer does; None: cut none.

        Raises:
            SettingError: `tokenizers` is not installed.
        """
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids if longest is None or len(ids) <= longest else [*ids[: longest - 1], ids[-1]]

    @cached_property
    def _tokenizer(self) -> "BertWordPieceTokenizer":
        try:
            from tokenizers import BertWordPieceTokenizer
        except ImportError as error:
            raise SettingError([("", f"expected the package tokenizers for texts: {INSTALL}")]) from error
        return BertWordPieceTokenizer(self.ids, lowercase=True)

    def words(self, ids: Iterable[int]) -> list[str]:
        """The words of a text: pieces put together, without special ones."""
        words: list[str] = []
        for number in ids:
            piece = self.pieces[number]
            if number in self.special:
                continue
            if piece.startswith("##") and words:
                words[-1] += piece[2:]
            else:
                words.append(piece)
        return words


@lru_cache
def vocabulary_of(path: str = "") -> Vocabulary:
    """The vocabulary in a file, one piece a line; of BERT (uncased, English) if no file is given.

    Raises:
        SettingError: no such file, or one without the special pieces.
    """
    try:
        content = Path(path).read_bytes() if path else _embedded()
        pieces = tuple(content.decode().rstrip("\n").replace("\r\n", "\n").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        text = f"{path}: expected a file of word pieces, one a line: {error}"
        raise SettingError([("vocabulary", text)]) from error
    missing = [piece for piece in SPECIAL if piece not in pieces]
    if missing:
        text = f"{path}: expected a vocabulary with {', '.join(SPECIAL)}, found no {missing[0]}"
        raise SettingError([("vocabulary", text)])
    return Vocabulary(pieces, path)


def _embedded() -> bytes:
    return decompress((resources.files("leakbench.bench.embedded") / FILE).read_bytes())
