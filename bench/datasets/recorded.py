"""What a federation recorded: the images behind its updates, known or not."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from leakbench.bench.datasets.base import Dataset, Images
from leakbench.bench.datasets.uploads import Upload, uploads_below, uploads_made_by
from leakbench.bench.protocols import PROTOCOLS, Protocol
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.user_files import file_digest
from leakbench.federation.rounds import CLIENT
from leakbench.federation.setting import Sender
from leakbench.federation.states import file_of

UNKNOWN = "the images behind a recorded update are unknown; `truth` and `truth_indices` name them"


@dataclass(frozen=True)
class Recorded(Dataset):
    """What clients of a real federation sent: each update is a victim, whether its images are known or not.

    Its images are those behind the updates, one update after the other: as many of each as the `protocol`
    has, so that update number i begins at index i * images. Settings:

    - `path`: a folder of rounds (docs/AUDIT.md), of which the updates made by the `protocol` are taken, or a
      file with an update at the scale of a gradient. In its place `before`, `after` and `lr`: the weights
      before and after the steps of a client, and its learning rate.
    - `shape`, `classes`: [C, H, W] of the images, and the number of labels.
    - `protocol`: by which each update was made, such as `fedavg(local_steps=5, lr=0.1)`; where the rounds do
      not say of how many images, they are taken to be its.
    - `truth`, `truth_indices`: the dataset of the true images, and the index of the first one of each update.
    """

    name: ClassVar[str] = "recorded"

    path: str = ""
    before: str = ""
    after: str = ""
    lr: float | None = None
    shape: tuple[int, ...] = ()
    classes: int = 0
    protocol: str = "fedsgd"
    truth: str = ""
    truth_indices: tuple[int, ...] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """The files must exist, and the images must be described."""
        step = (self.before, self.after, self.lr)
        if bool(self.path) == all(step) or (self.path and any(step)):
            yield "path", "expected either a path, or all of before, after and lr"
        for setting in ("path", "before", "after"):
            value = getattr(self, setting)
            if value and not os.path.exists(value):  # pathlib would raise if the name is too long
                yield setting, f"{value}: no such file"
        if self.lr is not None and not self.lr > 0:
            yield "lr", f"expected a number > 0, got {self.lr}"
        if len(self.shape) != 3 or min(self.shape) < 1:
            yield "shape", f"expected [channels, height, width] of an image, got {list(self.shape)}"
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
        return {**super().canonical(), "content": contents, "true": self._true_content()}

    def canonical_at(self, index: int) -> dict[str, Any]:
        """See `Dataset.canonical_at`: rounds that are recorded later change nothing of earlier ones."""
        own = self.truth_indices[index // self.examples : index // self.examples + 1]
        files = self._content(self.upload_at(index))
        values = {**super().canonical(), "truth_indices": own}
        return {**values, "content": files, "true": self._true_content()}

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

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`; without a truth the images cannot be read."""
        try:
            count = len(self.uploads)
        except UserError as error:
            raise SettingError([("path", problem) for problem in error.problems]) from error
        if not count:
            there = "; ".join(sorted({str(each.made_by(self.examples)) for each in self.every_upload}))
            text = f"{self.path}: expected updates made by {self.made_by} (`protocol`), found only {there}"
            raise SettingError([("protocol", text)])
        channels, height, width = self.shape
        shape = channels, height, width
        if not self.truth:
            return Images(shape, self.classes, count * self.examples, _unknown, known=False)
        from leakbench.bench.datasets import open_images

        true = open_images(self._truth(), data_root)
        if found := list(self._mismatches(true, count)):
            raise SettingError([(setting, f"{setting}: {value}") for setting, value in found])

        def read(index: int) -> tuple[Tensor, int]:
            update, place = divmod(index, self.examples)
            return true[self.truth_indices[update] + place]

        return Images(shape, self.classes, count * self.examples, read)

    def _mismatches(self, true: Images, count: int) -> Iterator[tuple[str, str]]:
        """How the truth cannot be that of the updates."""
        if (true.shape, true.classes) != (self.shape, self.classes):
            size = "x".join(map(str, true.shape))
            yield "truth", f"expected images of `shape` and `classes`, got {size} in {true.classes} classes"
        if len(self.truth_indices) != count:
            yield "truth_indices", f"expected {count}, one for each update, got {len(self.truth_indices)}"
        last = len(true) - self.examples
        for index in self.truth_indices:
            if not 0 <= index <= last:
                yield "truth_indices", f"expected 0..{last}, got {index}"


def _unknown(_index: int) -> tuple[Tensor, int]:
    raise SettingError([("truth", UNKNOWN)])
