"""What is stored of a finished trial: its row, its trace, its original, as plain values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from torch import Tensor

from leakbench.bench.row import Result, Row
from leakbench.bench.trace import Trace
from leakbench.bench.training_row import TrainingRow
from leakbench.bench.trial import SCHEMA_VERSION
from leakbench.core.configured import setting_types

FORMAT = 8  # of a run's folder
_VERSION = {"leakbench": f"format {FORMAT}, schema {SCHEMA_VERSION}"}  # in every file

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_PANDAS = {str: "str", int: "Int64", float: "float64", bool: "boolean"}


def table_of(row: type) -> tuple[dict[str, str], pa.Schema]:
    """The dtypes in pandas and the schema on disk of a table of such rows."""
    kinds = {name: kind if kind in _ARROW else get_args(kind)[0] for name, kind in setting_types(row).items()}
    columns = [(name, _ARROW[kind]) for name, kind in kinds.items()]
    return {name: _PANDAS[kind] for name, kind in kinds.items()}, pa.schema(columns, metadata=_VERSION)


ROW_DTYPES, ROW_SCHEMA = table_of(Row)
TRAINING_DTYPES, TRAINING_SCHEMA = table_of(TrainingRow)
TRACE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("objective", pa.list_(pa.float32())),
        ("image_mse", pa.list_(pa.float32())),
        ("shape", pa.list_(pa.int32())),
        ("reconstruction", pa.binary()),  # float16, clipped to [0, 1]
        ("snapshot_steps", pa.list_(pa.int32())),
        ("snapshots", pa.binary()),  # likewise, one picture after the other
        ("layers", pa.list_(pa.string())),  # parameters whose gradients' distances follow
        ("distance_steps", pa.list_(pa.int32())),
        ("distances", pa.list_(pa.float32())),  # of all layers at one step, then at the next
        ("input_layers", pa.list_(pa.string())),
        ("input_errors", pa.list_(pa.float32())),
    ],
    metadata=_VERSION,
)
CURVE_COLUMNS = [
    name
    for name in TRACE_SCHEMA.names
    if name not in ("shape", "reconstruction", "snapshot_steps", "snapshots")
]
ORIGINAL_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),
        ("shape", pa.list_(pa.int32())),
        ("image", pa.binary()),  # float16
    ],
    metadata=_VERSION,
)


class Record(NamedTuple):
    """A finished trial on its way from a worker to the disk."""

    row: dict[str, Any]
    trace: dict[str, Any] | None  # None where the trial failed
    originals: list[dict[str, Any]]  # likewise empty


@dataclass(frozen=True)
class Curves:
    """The numbers on the way of one trial, as they were kept."""

    objective: np.ndarray  # at the start and after each outer step; of `dlg` the match loss
    image_mse: np.ndarray  # likewise, of the raw pixels
    distances: dict[str, dict[int, float]]  # {parameter: {outer step: of its gradient from the shared one}}
    input_errors: dict[str, float]  # {layer: relative error of its input}, from the last layer on


@dataclass(frozen=True)
class StoredTrace(Curves):
    """The same with the pictures."""

    reconstruction: np.ndarray  # (N, C, H, W) float32, clipped to [0, 1]
    snapshots: dict[int, np.ndarray]  # {outer step: (N, C, H, W)}, clipped likewise


def to_record(result: Result) -> Record:
    """A result as it is stored."""
    row, trace = result.row, result.trace
    if trace is None:
        return Record(asdict(row), None, [])
    originals = [
        {"dataset": row.dataset, "index": index, **_pixels("image", image)}
        for index, image in enumerate(trace.truth, row.index)
    ]
    return Record(asdict(row), _trace_record(row.key, trace), originals)


def _trace_record(key: str, trace: Trace) -> dict[str, Any]:
    assert trace.reconstruction is not None
    return {
        "key": key,
        "objective": trace.objective,
        "image_mse": trace.image_mse,
        **_pixels("reconstruction", trace.reconstruction),
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
