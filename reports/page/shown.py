"""How the page shows an example: pictures that are part of the page, or words."""

import base64
import io
from collections.abc import Sequence

import numpy as np

from leakbench.reports.pictures import side_by_side
from leakbench.reports.words import Word, marked, words_of
from leakbench.sweeps.records import Example

LARGEST = 64  # pixels per side; larger pictures are subsampled

Frames = str | list[list[Word]]  # data URI of pictures side by side, or the words of each text


def shown(frames: Sequence[Example], original: Example) -> Frames:
    """Pictures side by side; or the words of each text, those marked that are not in the original there."""
    if isinstance(original, str):
        return [marked(each, original) for each in frames]
    return data_uri(frames)


def original_shown(original: Example) -> str:
    """The data URI of a picture, or the words of a text."""
    return " ".join(words_of(original)) if isinstance(original, str) else data_uri([original])


def data_uri(pictures: Sequence[np.ndarray]) -> str:
    """Pictures (C, H, W) in [0, 1], side by side, as a PNG in a data URI."""
    content = io.BytesIO()
    side_by_side([_smaller(picture) for picture in pictures]).save(content, "PNG", optimize=True)
    return png_uri(content.getvalue())


def png_uri(content: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _smaller(picture: np.ndarray) -> np.ndarray:
    """A large picture subsampled to at most LARGEST pixels per side."""
    stride = -(-max(picture.shape[1:]) // LARGEST)
    return picture[:, ::stride, ::stride]
