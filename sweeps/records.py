"""What is stored of a finished job: its row, and what belongs to it, as plain values."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leakbench.bench.job import Job
from leakbench.bench.protocols import FedSGD
from leakbench.bench.row import Result, failure
from leakbench.bench.trace import Trace
from leakbench.bench.training import Training
from leakbench.bench.training_row import Trained, Weights, training_failure
from leakbench.bench.trial import Trial
from leakbench.sweeps.tables import ORIGINALS, TRACES, TRAININGS, TRIALS


@dataclass(frozen=True)
class Record:
    """A finished job on its way from a worker to the disk."""

    table: str  # that the row is of
    row: dict[str, Any]
    others: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # {table: rows it refers to}
    files: dict[str, bytes] = field(default_factory=dict)  # {path in the run's folder: content}


Example = Any  # (C, H, W) float32, clipped to [0, 1]; or a text, pieces with spaces between them


@dataclass(frozen=True)
class Curves:
    """The numbers on the way of one trial, as they were kept."""

    objective: np.ndarray  # at the start and after each outer step; of `dlg` the match loss
    errors: np.ndarray  # likewise, see `Modality.errors`; empty where the truth is unknown
    distances: dict[str, dict[int, float]]  # {parameter: {outer step: of its gradient from the shared one}}
    input_errors: dict[str, float]  # {layer: relative error of its input}, from the last layer on


@dataclass(frozen=True)
class StoredTrace(Curves):
    """The same with the pictures, or the texts."""

    reconstruction: Sequence[Example]
    labels: list[int]  # of it; empty where none were looked for
    snapshots: dict[int, Sequence[Example]]  # {outer step: likewise}


def to_record(result: Result | Trained) -> Record:
    """A result as it is stored."""
    return _trained_record(result) if isinstance(result, Trained) else _trial_record(result)


def failed_record(job: Job, reason: str, device: str) -> Record:
    """What is stored of a job that has no result, and why it has none."""
    if isinstance(job, Training):
        return to_record(training_failure(job, reason, device))
    assert isinstance(job, Trial)
    return to_record(failure(job, reason, device))


def _trained_record(trained: Trained) -> Record:
    row = trained.row
    files: dict[str, bytes] = {}
    for epoch, weights in trained.weights.items():
        path = checkpoint(row.model, row.defense, row.protocol, row.seed, epoch)
        files[origin_of(path)] = row.key.encode()  # first: weights never pass for those of an earlier file
        files[path] = _saved(weights)
    return Record(TRAININGS.name, asdict(row), files=files)


def checkpoint(model: str, defense: str, protocol: str, seed: int, epoch: int) -> str:
    """Where in a run's folder the weights after that epoch are kept; `fedsgd` is not part of the name."""
    parts = (model, defense, "" if protocol == FedSGD.name else protocol)
    names = (re.sub(r"[^a-z0-9.-]+", "-", part.lower()).strip("-") for part in parts if part)
    return f"checkpoints/{'-'.join(names)}-seed{seed}-epoch{epoch}.pt"


def origin_of(path: str) -> str:
    """Where the key of the training that the weights come from is kept: recipes share a path."""
    return f"{path}.key"


def _saved(weights: Weights) -> bytes:
    content = BytesIO()
    torch.save(weights, content)
    return content.getvalue()


def _trial_record(result: Result) -> Record:
    row, trace = result.row, result.trace
    if trace is None:
        return Record(TRIALS.name, asdict(row))
    originals = [
        {"dataset": row.dataset, "index": index, **own}
        for index, own in enumerate(_originals(trace), row.index)
    ]
    others = {ORIGINALS.name: originals, TRACES.name: [_trace_record(row.key, trace)]}
    return Record(TRIALS.name, asdict(row), others)


def _originals(trace: Trace) -> list[dict[str, Any]]:
    """The true examples, as far as they are known."""
    if trace.truth is None:
        return []
    if trace.texts is not None:
        return [{"shape": [], "image": b"", "text": text} for text in trace.texts.truth]
    return [{**_pixels("image", image), "text": None} for image in trace.truth]


def _trace_record(key: str, trace: Trace) -> dict[str, Any]:
    return {
        "key": key,
        "objective": trace.objective,
        "errors": trace.errors,
        **_found(trace),
        "labels": trace.labels,
        "snapshot_steps": list(trace.snapshots),
        "layers": list(next(iter(trace.distances.values()), {})),
        "distance_steps": list(trace.distances),
        "distances": [each for layers in trace.distances.values() for each in layers.values()],
        "input_layers": list(trace.input_errors),
        "input_errors": list(trace.input_errors.values()),
    }


def _found(trace: Trace) -> dict[str, Any]:
    """What was found, at the end and on the way."""
    assert trace.reconstruction is not None
    if trace.texts is not None:
        texts = {
            "texts": list(trace.texts.reconstruction),
            "snapshot_texts": [list(each) for each in trace.texts.snapshots.values()],
        }
        return {"shape": [len(trace.reconstruction)], "reconstruction": b"", "snapshots": b"", **texts}
    return {
        **_pixels("reconstruction", trace.reconstruction),
        "snapshots": b"".join(_half_bytes(image) for image in trace.snapshots.values()),
        "texts": None,
        "snapshot_texts": None,
    }


def stored_trace(record: dict[str, Any]) -> StoredTrace:
    """A trace as it was read back."""
    steps, shape = record["snapshot_steps"], record["shape"]
    reconstruction, snapshots = record["texts"], record["snapshot_texts"]
    if reconstruction is None:
        reconstruction = picture(record["reconstruction"], shape)
        snapshots = picture(record["snapshots"], [len(steps), *shape])
    return StoredTrace(
        **vars(stored_curves(record)),
        reconstruction=reconstruction,
        labels=record["labels"],
        snapshots=dict(zip(steps, snapshots, strict=True)),
    )


def stored_original(record: dict[str, Any]) -> Example:
    """A true example as it was read back."""
    return record["text"] if record["text"] is not None else picture(record["image"], record["shape"])


def stored_curves(record: dict[str, Any]) -> Curves:
    """The numbers of a trace as it was read back."""
    layers, moments = record["layers"], record["distance_steps"]
    distances = np.array(record["distances"]).reshape(len(moments), len(layers))
    return Curves(
        np.array(record["objective"], dtype=np.float32),
        np.array(record["errors"], dtype=np.float32),
        {name: dict(zip(moments, own, strict=True)) for name, own in zip(layers, distances.T, strict=True)},
        dict(zip(record["input_layers"], record["input_errors"], strict=True)),
    )


def _pixels(name: str, image: Tensor) -> dict[str, Any]:
    return {"shape": list(image.shape), name: _half_bytes(image)}


def _half_bytes(image: Tensor) -> bytes:
    return image.nan_to_num().clamp(0, 1).numpy().astype("<f2").tobytes()


def picture(content: bytes, shape: Sequence[int]) -> np.ndarray:
    """Stored pixels as float32, of that shape."""
    return np.frombuffer(content, dtype="<f2").reshape(shape).astype(np.float32)
