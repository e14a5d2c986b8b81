"""Whether a dataset keeps its contract: images of one shape in [0, 1], the same at every reading."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from leakbench.bench.datasets import DATASETS, Dataset, Images, Source, Texts, open_dataset
from leakbench.bench.modalities import IMAGES
from leakbench.core.configured import SettingError
from leakbench.sweeps.checks import example_problems
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

MOST_READ = 50  # images, from the first to the last


def findings(dataset: Dataset, data_root: Path) -> Iterator[Finding]:
    """Every check of a dataset, one after the other; only the first ones if it cannot be opened."""
    for finding in tried(dataset, _opening(dataset, data_root)):
        yield finding
        if finding.problem:
            return
    if not open_dataset(dataset, data_root).known:
        return
    yield from tried(dataset, _reading(dataset, data_root))


def _opening(dataset: Dataset, data_root: Path) -> Attempts:
    yield SETTINGS, partial(read_back, dataset, DATASETS)
    yield "a shape, a number of classes and a length", partial(_opened, dataset, data_root)


def _reading(dataset: Dataset, data_root: Path) -> Attempts:
    modality = open_dataset(dataset, data_root).modality
    values = "images in [0, 1]" if modality is IMAGES else "tokens of its vocabulary"
    again = f"the same {modality.name} in another order, and no other randomness"
    yield f"{values}, and labels of its classes", partial(_read, dataset, data_root)
    yield again, partial(_repeated, dataset, data_root)
    yield "an IndexError for an index out of range", partial(_outside, dataset, data_root)


def _opened(dataset: Dataset, data_root: Path) -> str | None:
    try:
        images = dataset.open(data_root)
    except SettingError as error:
        return str(error)
    if not isinstance(images, Images | Texts):
        text = "Images(shape, classes, length, read) or Texts(vocabulary, longest, classes, length, read)"
        return f"expected {text}, got {type(images).__name__}"
    shape, dimensions = images.shape, 3 if isinstance(images, Images) else 2
    if not isinstance(shape, tuple) or len(shape) != dimensions or not all(map(_is_count, shape)):
        return f"expected a shape (C, H, W) of whole numbers >= 1, got {shape!r}"
    for what in ("classes", "length"):
        if not _is_count(getattr(images, what)):
            return f"expected a whole number >= 1 as {what}, got {getattr(images, what)!r}"
    return next((text.removeprefix(": ") for text in example_problems(images, (), together=1)), None)


def _read(dataset: Dataset, data_root: Path) -> str | None:
    images = open_dataset(dataset, data_root)
    for index in _spread(images):
        one, (example, label) = f"{images.modality.one} {index}", images[index]
        examine = _image_problem if isinstance(images, Images) else _text_problem
        wrong = examine(images, example)
        if wrong:
            return f"{one}: {wrong}"
        if type(label) is not int or not 0 <= label < images.classes:
            return f"{one}: expected an int in 0..{images.classes - 1} as its label, got {label!r}"
    return None


def _image_problem(images: Source, image: object) -> str:
    if not isinstance(image, Tensor) or (image.dtype, image.shape) != (torch.float32, images.shape):
        return f"expected torch.float32 of {images.shape}, got {_nature(image)}"
    if not bool(((image >= 0) & (image <= 1)).all()):  # NaN fails this, too
        return f"expected values in [0, 1], got {float(image.min()):g} to {float(image.max()):g}"
    return ""


def _text_problem(texts: Source, tokens: object) -> str:
    longest, pieces = texts.shape
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 1:
        return f"expected tokens (L,), torch.int64, got {_nature(tokens)}"
    if not 1 <= len(tokens) <= longest:
        return f"expected 1 to {longest} tokens, got {len(tokens)}"
    if not bool(((tokens >= 0) & (tokens < pieces)).all()):
        return f"expected tokens in 0..{pieces - 1}, got {int(tokens.min())} to {int(tokens.max())}"
    return ""


def _nature(value: object) -> str:
    return f"{value.dtype} of {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:100]


def _repeated(dataset: Dataset, data_root: Path) -> str | None:
    before = torch.random.get_rng_state()
    images, anew = open_dataset(dataset, data_root), dataset.open(data_root)
    first = {index: images[index] for index in _spread(images)}
    for index in reversed(_spread(images)):
        (image, label), (again, answer) = first[index], anew[index]
        if not torch.equal(image, again) or label != answer:
            return f"{images.modality.one} {index}: expected the same and its label again, got others"
    if not torch.equal(before, torch.random.get_rng_state()):
        return "used PyTorch's global random generator; let the index alone decide an image"
    return None


def _outside(dataset: Dataset, data_root: Path) -> str | None:
    images = open_dataset(dataset, data_root)
    for index in (-1, len(images)):
        try:
            images[index]
        except IndexError:
            continue
        return f"expected an IndexError for index {index} of {len(images)} {images.modality.name}, got one"
    return None


def _spread(images: Source) -> list[int]:
    """Indices from the first to the last, MOST_READ at most."""
    count = min(len(images), MOST_READ)
    return [place * (len(images) - 1) // max(count - 1, 1) for place in range(count)]


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1
