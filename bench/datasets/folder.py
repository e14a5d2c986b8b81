"""A folder of the user's pictures."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from leakbench.bench.datasets.base import Dataset, Images, to_image
from leakbench.core.configured import SettingError
from leakbench.core.ranges import Count

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Folder(Dataset):
    """PNG and JPEG files of a folder, sorted by name; short form `folder:PATH`.

    Each picture is scaled and cropped around its centre to `size` x `size` pixels. The label is the
    index of the sub-folder, sorted by name; without sub-folders it is 0.
    """

    name: ClassVar[str] = "folder"

    path: str
    size: Count = 32
    grey: bool = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """The folder must exist."""
        if not os.path.isdir(self.path):  # pathlib would raise if the name is too long
            yield "path", f"expected a folder of pictures, found none at {self.path!r}"

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; the pictures are included by their content."""
        return {**super().canonical(), "content": content_digest(tuple(self._files()))}

    def open(self, data_root: Path) -> Images:
        """See `Dataset.open`."""
        files = self._files()
        if not files:
            text = f"{self.path}: expected pictures ({', '.join(SUFFIXES)}), found none"
            raise SettingError([("path", text)])
        folders = sorted({file.parent for file in files})
        if len(folders) > 1 and Path(self.path) in folders:
            text = f"{self.path}: expected pictures in sub-folders or in the folder itself, found both"
            raise SettingError([("path", text)])
        labels = [folders.index(file.parent) for file in files]
        shape = (1 if self.grey else 3, self.size, self.size)
        # a classifier of one class would give a gradient of zero
        classes = max(2, len(folders))
        return Images(shape, classes, len(files), lambda i: (self._read(files[i]), labels[i]))

    def _files(self) -> list[Path]:
        return list(pictures_below(Path(self.path)))

    def _read(self, file: Path) -> Tensor:
        try:
            with Image.open(file) as picture:
                upright = ImageOps.exif_transpose(_eight_bits(picture)).convert("L" if self.grey else "RGB")
        except (OSError, Image.DecompressionBombError) as error:
            text = f"{file}: expected a PNG or JPEG picture: {error}"
            raise SettingError([("path", text)]) from error
        return to_image(np.asarray(ImageOps.fit(upright, (self.size, self.size))))


@lru_cache  # each process lists a folder once
def pictures_below(folder: Path) -> tuple[Path, ...]:
    """The pictures in a folder and its sub-folders, sorted by name."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    return tuple(sorted(found, key=lambda file: (file.parent, file.name)))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A picture with 16 bits per pixel, scaled to 8 bits; Pillow would clip it at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))


@lru_cache
def content_digest(files: tuple[Path, ...]) -> str:
    """SHA-256 over the names and bytes of the files, in order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
