"""Reads tensors from files of other programs, as data, never as code; and writes them."""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leakbench.core.errors import UserError


def read_tensors(path: Path) -> Any:
    """The content of a file: usually {name: tensor}; a file of `torch.save` may hold other data, but no code.

    Args:
        path: `.npz` of numpy, `.safetensors`, or a file of `torch.save` with any other suffix.

    Raises:
        UserError: there is no such file, or it is in none of these formats.
    """
    read = READERS.get(path.suffix, _read_torch)
    try:
        return read(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ERRORS as error:
        text = f"expected tensors written by {WRITERS.get(path.suffix, 'torch.save')}"
        raise UserError(f"{path}: {text}, got {type(error).__name__}") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name: `.npz`, compressed, or as `torch.save` does. Equal tensors give equal files.

    Raises:
        OSError: it cannot be written.
    """
    if path.suffix == ".npz":
        arrays = {name: each.numpy() for name, each in tensors.items()}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # a name may be `allow_pickle`
    else:
        torch.save(dict(tensors), path)


def _read_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # for pickles not written by torch.save
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_numpy(path: Path) -> Mapping[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.as_tensor(arrays[name]) for name in arrays.files}


def _read_safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError:
        text = "expected the package safetensors, which reads such files, found none"
        raise UserError(f"{path}: {text}; pip install safetensors") from None
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


READERS: Mapping[str, Callable[[Path], Any]] = {".npz": _read_numpy, ".safetensors": _read_safetensors}
WRITERS = {".npz": "numpy.savez", ".safetensors": "safetensors"}
ERRORS = (
    OSError, RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, pickle.UnpicklingError,
    zipfile.BadZipFile,
)  # fmt: skip
