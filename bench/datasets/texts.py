"""Texts: sentences that are bundled with the project, and the lines of a file of the user's."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from gzip import decompress
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from leakbench.bench.datasets.base import Dataset, Texts
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.bench.vocabulary import Vocabulary, vocabulary_of
from leakbench.core.configured import SettingError
from leakbench.core.user_files import file_digest

FILE = "sotu.csv.gz"  # of `bench/embedded`
PARTIES = ("Democratic", "Republican")  # of classes 0 and 1; any other name, or none, is class 2
LABEL = re.compile(r"[0-9]{1,9}")


class Sentence(NamedTuple):
    """One sentence of a State of the Union address."""

    year: int
    name: str  # of the president
    party: str
    text: str

    @property
    def century(self) -> int:
        """0 before 1900, 1 since then."""
        return int(self.year >= 1900)

    @property
    def camp(self) -> int:
        """0: Democratic, 1: Republican, 2: neither."""
        return PARTIES.index(self.party) if self.party in PARTIES else len(PARTIES)


@dataclass(frozen=True)
class Sotu(Dataset):
    """Sentences of State of the Union addresses; `bench/embedded/LICENSES.md` names their source.

    Those before 1900 and those since then take turns. Label `century`: 0 before 1900, 1 since. Label `party`
    of the president: 0 Democratic, 1 Republican, 2 others (Democratic-Republican, Federalist, Whig,
    Whig & Democratic, National Union and none).
    """

    modality: ClassVar[Modality] = TEXTS
    count: ClassVar[int]

    label: Literal["century", "party"] = "century"

    def open(self, data_root: Path) -> Texts:
        """See `Dataset.open`; `data_root` is not used."""
        sentences = embedded_sentences()[: self.count]
        by_century = self.label == "century"
        labels = [each.century if by_century else each.camp for each in sentences]
        return texts_of(vocabulary_of(), encoded(self.count), labels, 2 if by_century else len(PARTIES) + 1)


@dataclass(frozen=True)
class SotuSample(Sotu):
    """200 sentences of State of the Union addresses: the first of `sotu-2k`."""

    name: ClassVar[str] = "sotu-sample"
    count: ClassVar[int] = 200


@dataclass(frozen=True)
class Sotu2k(Sotu):
    """2,000 sentences of State of the Union addresses, of 10 to 40 word pieces each."""

    name: ClassVar[str] = "sotu-2k"
    count: ClassVar[int] = 2000


@lru_cache
def embedded_sentences() -> tuple[Sentence, ...]:
    """All bundled sentences, in order."""
    content = decompress((resources.files("leakbench.bench.embedded") / FILE).read_bytes()).decode()
    _columns, *rows = csv.reader(content.splitlines())
    return tuple(Sentence(int(year), *others) for year, *others in rows)


@lru_cache
def encoded(count: int) -> tuple[list[int], ...]:
    """The ids of the first bundled sentences."""
    return tuple(vocabulary_of().encode(each.text) for each in embedded_sentences()[:count])


def texts_of(vocabulary: Vocabulary, ids: Sequence[list[int]], labels: Sequence[int], classes: int) -> Texts:
    """An opened dataset of texts that are encoded already."""
    longest = max(map(len, ids))
    return Texts(vocabulary, longest, classes, len(ids), lambda i: (torch.tensor(ids[i]), labels[i]))


@dataclass(frozen=True)
class TextFile(Dataset):
    """The lines of a text file, one example each; short form `text:FILE`.

    A line is a text, or a label (a whole number), a tab and a text; without labels, every label is 0.
    `vocabulary` is a file of word pieces, one a line (empty: BERT's), and texts of more than `longest` word
    pieces are cut (0: none are).
    """

    modality: ClassVar[Modality] = TEXTS
    name: ClassVar[str] = "text"

    path: str
    vocabulary: str = ""
    longest: int = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """The files must exist, and a text that is cut keeps one word piece between its two special ones."""
        if not os.path.isfile(self.path):
            yield "path", f"expected a file of texts, found none at {self.path!r}"
        if self.vocabulary and not os.path.isfile(self.vocabulary):
            yield "vocabulary", f"expected a file of word pieces, found none at {self.vocabulary!r}"
        if self.longest != 0 and self.longest < 3:
            yield "longest", f"expected a whole number >= 3, or 0 to cut no text, got {self.longest}"

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; both files are included by their content."""
        files = {"content": self.path, "vocabulary_content": self.vocabulary}
        digests = {name: file_digest(Path(file)) for name, file in files.items() if file}
        return {**super().canonical(), **digests}

    def open(self, data_root: Path) -> Texts:
        """See `Dataset.open`."""
        vocabulary = vocabulary_of(self.vocabulary)
        labels, texts = zip(*self._examples(), strict=True)
        ids = [vocabulary.encode(text, self.longest or None) for text in texts]
        for number, each in enumerate(ids, 1):
            if len(each) < 3:  # such as a control character
                raise self._problem(f"line {number}: expected a text, found no word in it")
        # a classifier of one class would give a gradient of zero
        return texts_of(vocabulary, ids, labels, max(2, max(labels) + 1))

    def _examples(self) -> Iterator[tuple[int, str]]:
        lines = self._lines()
        labelled = any("\t" in line for line in lines if line.strip())
        for number, line in enumerate(lines, 1):
            try:
                yield parsed(line, labelled)
            except ValueError as error:
                raise self._problem(f"line {number}: {error}") from None

    def _lines(self) -> list[str]:
        content = Path(self.path).read_bytes()
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            number = error.object[: error.start].count(b"\n") + 1
            found = f"the byte 0x{error.object[error.start]:02x}"
            raise self._problem(f"line {number}: expected UTF-8, found {found}; save it as UTF-8") from None
        if not text.strip():
            raise self._problem("expected texts, one a line, found none")
        return text.removesuffix("\n").split("\n")

    def _problem(self, text: str) -> SettingError:
        return SettingError([("path", f"{self.path}: {text}")])


def parsed(line: str, labelled: bool) -> tuple[int, str]:
    """The label and the text of a line.

    Raises:
        ValueError: an empty line, or one without a label in a file of labelled lines.
    """
    if not line.strip():
        raise ValueError("expected a text, found an empty line")
    if not labelled:
        return 0, line
    label, tab, text = line.partition("\t")
    if not tab:
        raise ValueError("expected a label and a tab before the text, as in other lines, found no tab")
    if not LABEL.fullmatch(label):
        raise ValueError(f"expected a whole number as the label before the tab, found {label[:40]!r}")
    if not text.strip():
        raise ValueError("expected a text after the label, found none")
    return int(label), text
