"""Reads what was rebuilt elsewhere, and makes the file of the attack `handed-in` of it.

FOUND/PART/000.npy   images (N, C, H, W) in [0, 1], of victim 0 as `leakbench victims` numbers them
FOUND/PART/000.txt   texts, one a line
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from leakbench.bench.attacks import Spec
from leakbench.bench.attacks.handed_in import HandedIn, HandedInTexts, contents, fingerprint
from leakbench.bench.modalities import TEXTS
from leakbench.bench.vocabulary import Vocabulary
from leakbench.board.victims import Victims, name_of
from leakbench.core.errors import UserError
from leakbench.core.registry import unknown_text
from leakbench.federation.tensor_files import write_tensors

FILE = "found.npz"  # in an entry


def take_in(folder: Path, parts: Sequence[Victims], entry: Path) -> list[str]:
    """Write the file of what was handed in into the folder of an entry; the attacks that play it back.

    Args:
        folder: of what was handed in.
        parts: the victims of all parts.
        entry: the folder of an entry.

    Raises:
        UserError: nothing was handed in, or something else; with a line for every problem.
        OSError: the file cannot be written.
    """
    found = read_found(folder, parts)
    given = [part for part in parts if any(name.startswith(f"{part.folder}/") for name in found)]
    prints = {
        f"{part.folder}/{name_of(number)}": fingerprint(part.seen(trial).shared)
        for part in given
        for number, trial in enumerate(part.trials)
    }
    write_tensors(entry / FILE, contents(prints, found))
    kinds = dict.fromkeys(HandedInTexts if part.spec.modality is TEXTS else HandedIn for part in given)
    return [f"{kind.name}(file={FILE})" for kind in kinds]


def read_found(folder: Path, parts: Sequence[Victims]) -> dict[str, Tensor]:
    """{`PART/NUMBER`: images, uint8, or tokens (N, L)}.

    Raises:
        UserError: as `take_in`.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of what was rebuilt, found none")
    known = {part.folder: part for part in parts}
    found: dict[str, Tensor] = {}
    problems: list[str] = []
    for path in _visible(folder):
        if path.name not in known or not path.is_dir():
            problems.append(f"{path}: {unknown_text('part', path.name, known)}")
            continue
        for each in _visible(path):
            try:
                found[f"{path.name}/{each.stem}"] = _read(each, known[path.name])
            except UserError as error:
                problems += error.problems
    if not found and not problems:
        one = f"{parts[0].folder}/{name_of(0)}{_suffix(parts[0].spec)}"
        problems.append(f"{folder}: expected what was rebuilt, such as {one}, found nothing")
    if problems:
        raise UserError(*problems)
    return found


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _suffix(spec: Spec) -> str:
    return ".txt" if spec.vocabulary else ".npy"


def _read(path: Path, part: Victims) -> Tensor:
    last, suffix = len(part.trials) - 1, _suffix(part.spec)
    if path.name not in {f"{name_of(number)}{suffix}" for number in range(last + 1)}:
        text = f"expected the name of a victim, {name_of(0)}{suffix} to {name_of(last)}{suffix}"
        raise UserError(f"{path}: {text}, found another")
    return _texts(path, part.spec) if part.spec.vocabulary else _images(path, part.spec)


def _images(path: Path, spec: Spec) -> Tensor:
    try:
        pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{path}: expected an array written by numpy.save, got {type(error).__name__}"
        ) from error
    expected = f"{path}: expected floats of shape {spec.batch_shape} in [0, 1]"
    if not isinstance(pixels, np.ndarray) or not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{expected}, got {getattr(pixels, 'dtype', 'several arrays')}")
    if pixels.shape != spec.batch_shape:
        raise UserError(f"{expected}, got shape {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise UserError(f"{expected}, found NaN or infinity")
    if pixels.min() < 0 or pixels.max() > 1:
        raise UserError(f"{expected}, got {pixels.min():.3g} to {pixels.max():.3g}")
    return torch.from_numpy((pixels * 255).round().astype(np.uint8))


def _texts(path: Path, spec: Spec) -> Tensor:
    assert spec.vocabulary is not None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected texts in UTF-8, got {error.reason}") from error
    if len(lines) != spec.count:
        raise UserError(f"{path}: expected {spec.count} lines, one for each text, found {len(lines)}")
    longest = spec.shape[0]
    tokens = [_tokens(f"{path}: line {place}", line, spec.vocabulary) for place, line in enumerate(lines, 1)]
    for place, each in enumerate(tokens, 1):
        if not 3 <= len(each) <= longest:
            text = f"expected a text of 1 to {longest - 2} word pieces"
            raise UserError(f"{path}: line {place}: {text}, got {len(each) - 2}")
    pad = spec.vocabulary.pad
    return torch.tensor([each + [pad] * (longest - len(each)) for each in tokens])


def _tokens(where: str, line: str, vocabulary: Vocabulary) -> list[int]:
    """Of word pieces, which a line shows by pieces that no plain text has; otherwise of a plain text."""
    words, ids = line.split(), vocabulary.ids
    in_pieces = any(word.startswith("##") or word in ("[CLS]", "[SEP]") for word in words)
    for word in words:
        if (word not in ids) if in_pieces else (vocabulary.unknown in vocabulary.encode(word)):
            raise UserError(f"{where}: expected words that the vocabulary has pieces for, found {word!r}")
    if not in_pieces:
        return vocabulary.encode(line)
    own = [ids[word] for word in words if word not in ("[CLS]", "[SEP]", "[PAD]")]
    return [ids["[CLS]"], *own, vocabulary.end]
