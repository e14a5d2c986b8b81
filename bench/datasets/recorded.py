"""What a federation recorded: the images or texts behind its updates, known or not."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from leakbench.bench.datasets.base import Dataset, Images, Source, Texts
from leakbench.bench.datasets.uploads import Upload, uploads_below, uploads_made_by
from leakbench.bench.modalities import IMAGES, TEXTS, Modality
from leakbench.bench.protocols import PROTOCOLS, Protocol
from leakbench.bench.vocabulary import vocabulary_of
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.ranges import Positive
from leakbench.core.user_files import file_digest
from leakbench.federation.rounds import CLIENT
from leakbench.federation.setting import Sender
from leakbench.federation.states import file_of

UNKNOWN = "the {} behind a recorded update are unknown; `truth` and `truth_indices` name them"


@dataclass(frozen=True)
class Recorded(Dataset):
    """What clients of a real federation sent: each update is a victim, whether its examples are known or not.

    Its images are those behind the updates, one update after the other: as many of each as the `protocol`
    has, so that update number i begins at index i * images. Texts take the place of images where `shape` is
    that of texts. Settings:

    - `path`: a folder of rounds (docs/AUDIT.md), of which the updates made by the `protocol` are taken, or a
      file with an update at the scale of a gradient. In its place `before`, `after` and `lr`: the weights
      before and after the steps of a client, and its learning rate.
    - `shape`, `classes`: [C, H, W] of the images, or [L] of texts of at most L tokens; the number of labels.
    - `vocabulary`: of texts, a file of word pieces (empty: BERT's).
    - `protocol`: by which each update was made, such as `fedavg(local_steps=5, lr=0.1)`; where the rounds do
      not say of how many images, they are taken to be its.
    - `truth`, `truth_indices`: the dataset of the true images, and the index of the first one of each update.
    """

    name: ClassVar[str] = "recorded"

    path: str = ""
    before: str = ""
    after: str = ""
    lr: Positive | None = None
    shape: tuple[int, ...] = ()
    classes: int = 0
    vocabulary: str = ""
    protocol: str = "fedsgd"
    truth: str = ""
    truth_indices: tuple[int, ...] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """The files must exist, and the images or texts must be described."""
        step = (self.before, self.after, self.lr)
        if bool(self.path) == all(step) or (self.path and any(step)):
            yield "path", "expected either a path, or all of before, after and lr"
        for setting in ("path", "before", "after", "vocabulary"):
            value = getattr(self, setting)
            if value and not os.path.exists(value):  # pathlib would raise if the name is too long
                yield setting, f"{value}: no such file"
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            expected = "expected [channels, height, width] of an image, or [tokens] of the longest text"
            yield "shape", f"{expected}, got {list(self.shape)}"
        elif self.vocabulary and self.modality is IMAGES:
            yield "vocabulary", f"expected none with the `shape` of an image, got {self.vocabulary!r}"
        if self.classes < 2:
            yield "classes", f"expected a whole number >= 2, got {self.classes}"
        try:
            own = self.made_by
        except SettingError as error:
            yield "protocol", str(error)
        else:
            if self.lr is not None and self.lr != getattr(own, "lr", self.lr):
                yield "protocol", f"expected lr={self.lr:g} in it, as `lr` says, got {own}"
        if bool(self.truth) != bool(self.truth_indices):
            yield "truth", "expected a dataset and truth_indices of it, or neither"

    @property
    def modality(self) -> Modality:  # type: ignore[override]  # of other datasets, the class decides
        """See `Dataset.modality`."""
        return TEXTS if len(self.shape) == 1 else IMAGES

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What a network is built for: see `Spec.shape`.

        Raises:
            SettingError: a bad vocabulary.
        """
        if self.modality is TEXTS:
            return *self.shape, len(vocabulary_of(self.vocabulary))
        return self.shape

    @property
    def made_by(self) -> Protocol:
        """The protocol by which each update was made."""
        return PROTOCOLS.parse(self.protocol)

    @property
    def examples(self) -> int:
        """How many images are behind each update."""
        return self.made_by.images

    def is_shared_by(self, protocol: Protocol) -> bool:
        """See `Dataset.is_shared_by`."""
        return protocol == self.made_by

    @property
    def address(self) -> str:
        """See `Configured.address`; an attack draws the same whether the truth is known or not."""
        return super().address if not self.truth else replace(self, truth="", truth_indices=()).address

    @property
    def uploads(self) -> tuple[Upload, ...]:
        """The updates, in the order of their rounds.

        Raises:
            UserError: no rounds, or bad settings of them, with a line for every problem.
        """
        path = Path(self.path or self.after)
        if not path.is_dir():
            return self.every_upload
        return uploads_made_by(self.made_by, path, path.resolve(), path.stat().st_mtime_ns)

    @property
    def every_upload(self) -> tuple[Upload, ...]:
        """The same with those made by another protocol."""
        path = Path(self.path or self.after)
        if not path.is_dir():
            return (Upload(path, path.stem, sender=Sender(examples=self.examples)),)
        return uploads_below(path, path.resolve(), path.stat().st_mtime_ns)

    def upload_at(self, index: int) -> Upload:
        """The update that begins at an index."""
        return self.uploads[index // self.examples]

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; the files are included by their content."""
        contents = [self._content(each) for each in self.uploads]
        return {**self._settings(), "content": contents, "true": self._true_content()}

    def canonical_at(self, index: int) -> dict[str, Any]:
        """See `Dataset.canonical_at`: rounds that are recorded later change nothing of earlier ones."""
        own = self.truth_indices[index // self.examples : index // self.examples + 1]
        files = self._content(self.upload_at(index))
        values = {**self._settings(), "truth_indices": own}
        return {**values, "content": files, "true": self._true_content()}

    def _settings(self) -> dict[str, Any]:
        """As for all; a vocabulary counts where one is given, by its content."""
        values = super().canonical()
        path = values.pop("vocabulary")
        return {**values, "vocabulary": file_digest(Path(path))} if path else values

    def _content(self, upload: Upload) -> list[str]:
        if not upload.path.is_dir():
            return [file_digest(Path(each)) for each in (self.path, self.before, self.after) if each]
        files = [file_of(upload.path, stem) for stem in ("weights", CLIENT + upload.client)]
        return [file_digest(each) for each in (upload.path / "round.json", *files)]

    def _true_content(self) -> dict[str, Any]:
        return self._truth().canonical() if self.truth else {}

    def _truth(self) -> Dataset:
        from leakbench.bench.datasets import DATASETS

        return DATASETS.parse(self.truth)

    def open(self, data_root: Path) -> Source:
        """See `Dataset.open`; without a truth the images or texts cannot be read."""
        try:
            count = len(self.uploads)
        except UserError as error:
            raise SettingError([("path", problem) for problem in error.problems]) from error
        if not count:
            there = "; ".join(sorted({str(each.made_by(self.examples)) for each in self.every_upload}))
            text = f"{self.path}: expected updates made by {self.made_by} (`protocol`), found only {there}"
            raise SettingError([("protocol", text)])
        about = self.classes, count * self.examples, self._reader(data_root, count), bool(self.truth)
        if self.modality is TEXTS:
            return Texts(vocabulary_of(self.vocabulary), self.shape[0], *about)
        channels, height, width = self.shape
        return Images((channels, height, width), *about)

    def _reader(self, data_root: Path, count: int) -> Callable[[int], tuple[Tensor, int]]:
        """What reads an example; without a truth it raises a SettingError."""
        if not self.truth:

            def unknown(_index: int) -> tuple[Tensor, int]:
                raise SettingError([("truth", UNKNOWN.format(self.modality.name))])

            return unknown
        from leakbench.bench.datasets import open_dataset

        true = open_dataset(self._truth(), data_root)
        if found := list(self._mismatches(true, count)):
            raise SettingError([(setting, f"{setting}: {value}") for setting, value in found])

        def read(index: int) -> tuple[Tensor, int]:
            update, place = divmod(index, self.examples)
            return true[self.truth_indices[update] + place]

        return read

    def _mismatches(self, true: Source, count: int) -> Iterator[tuple[str, str]]:
        """How the truth cannot be that of the updates."""
        name = self.modality.name
        if true.modality is not self.modality:
            yield "truth", f"expected {name}, as `shape` says, got {true.modality.name}"
        elif (true.shape, true.classes) != (self.input_shape, self.classes):
            got = f"{true.size} in {true.classes} classes"
            yield "truth", f"expected {name} of `shape` and `classes`, got {got}"
        elif isinstance(true, Texts) and true.vocabulary.pieces != vocabulary_of(self.vocabulary).pieces:
            yield "truth", "expected texts of the pieces of `vocabulary`, got those of another one"
        if len(self.truth_indices) != count:
            yield "truth_indices", f"expected {count}, one for each update, got {len(self.truth_indices)}"
        last = len(true) - self.examples
        for index in self.truth_indices:
            if not 0 <= index <= last:
                yield "truth_indices", f"expected 0..{last}, got {index}"
