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


@dataclass(frozen=True)
class Curves:
    """The numbers on the way of one trial, as they were kept."""

    objective: np.ndarray  # at the start and after each outer step; of `dlg` the match loss
    image_mse: np.ndarray  # likewise, of the raw pixels; empty where the truth is unknown
    distances: dict[str, dict[int, float]]  # {parameter: {outer step: of its gradient from the shared one}}
    input_errors: dict[str, float]  # {layer: relative error of its input}, from the last layer on


@dataclass(frozen=True)
class StoredTrace(Curves):
    """The same with the pictures."""

    reconstruction: np.ndarray  # (N, C, H, W) float32, clipped to [0, 1]
    labels: list[int]  # of it; empty where none were looked for
    snapshots: dict[int, np.ndarray]  # {outer step: (N, C, H, W)}, clipped likewise


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
        {"dataset": row.dataset, "index": index, **_pixels("image", image)}
        for index, image in enumerate(() if trace.truth is None else trace.truth, row.index)
    ]
    others = {ORIGINALS.name: originals, TRACES.name: [_trace_record(row.key, trace)]}
    return Record(TRIALS.name, asdict(row), others)


def _trace_record(key: str, trace: Trace) -> dict[str, Any]:
    assert trace.reconstruction is not None
    return {
        "key": key,
        "objective": trace.objective,
        "image_mse": trace.image_mse,
        **_pixels("reconstruction", trace.reconstruction),
        "labels": trace.labels,
        "snapshot_steps": list(trace.snapshots),
        "snapshots": b"".join(_half_bytes(image) for image in trace.snapshots.values()),
        "layers": list(next(iter(trace.distances.values()), {})),
        "distance_steps": list(trace.distances),
        "distances": [each for layers in trace.distances.values() for each in layers.values()],
        "input_layers": list(trace.input_errors),
        "input_errors": list(trace.input_errors.values()),
    }


def stored_trace(record: dict[str, Any]) -> StoredTrace:
    """A trace as it was read back."""
    steps, shape = record["snapshot_steps"], record["shape"]
    return StoredTrace(
        **vars(stored_curves(record)),
        reconstruction=picture(record["reconstruction"], shape),
        labels=record["labels"],
        snapshots=dict(zip(steps, picture(record["snapshots"], [len(steps), *shape]), strict=True)),
    )


def stored_curves(record: dict[str, Any]) -> Curves:
    """The numbers of a trace as it was read back."""
    layers, moments = record["layers"], record["distance_steps"]
    distances = np.array(record["distances"]).reshape(len(moments), len(layers))
    return Curves(
        np.array(record["objective"], dtype=np.float32),
        np.array(record["image_mse"], dtype=np.float32),
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
