"""Rows on disk: append-only parquet parts, each written whole and renamed into place.

RUN/sweep.json          what was asked for, and the versions it was first run with
RUN/trials.parquet/     one row a trial; pandas reads the folder as one table
RUN/traces.parquet/     loss histories and reconstructions, read only when asked for
RUN/originals.parquet/  the images themselves, once each
"""

import fcntl
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from bench.trial import SCHEMA_VERSION, Result, Row, Trace
from defenses.configured import setting_types
from defenses.errors import UserError
from sweeps.spec import Sweep

MANIFEST = "sweep.json"
FORMAT = 1  # of the folder
PACKAGES = ("leakbench", "torch", "torchvision", "numpy", "pandas", "scikit-image", "pyarrow")

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_PANDAS = {str: "str", int: "Int64", float: "float64", bool: "boolean"}
_KINDS = {name: kind if kind in _ARROW else get_args(kind)[0] for name, kind in setting_types(Row).items()}
ROW_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in _KINDS.items()])
ROW_DTYPES = {name: _PANDAS[kind] for name, kind in _KINDS.items()}  # of the table in pandas
TRACE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("match_loss", pa.list_(pa.float32())),
        ("image_mse", pa.list_(pa.float32())),
        ("shape", pa.list_(pa.int32())),
        ("reconstruction", pa.binary()),  # float16, clipped to [0, 1]
        ("snapshot_steps", pa.list_(pa.int32())),
        ("snapshots", pa.binary()),  # likewise, one picture after the other
    ]
)
ORIGINAL_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("index", pa.int64()),
        ("shape", pa.list_(pa.int32())),
        ("image", pa.binary()),
    ]
)


@dataclass(frozen=True)
class StoredTrace:
    """The way of one trial, as it was kept."""

    match_loss: np.ndarray  # at the start and after each outer step
    image_mse: np.ndarray  # likewise, of the raw pixels
    reconstruction: np.ndarray  # (C, H, W) float32, clipped to [0, 1]
    snapshots: dict[int, np.ndarray]  # {outer step: (C, H, W)}, clipped likewise


class Store:
    """The folder of one run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._originals: set[tuple[str, int]] | None = None

    @classmethod
    def open_for(cls, folder: Path, sweep: Sweep, create: bool = True) -> "Store":
        """The store for a sweep, in a new folder or in the one that holds its rows already.

        Args:
            folder: of the run.
            sweep: what it is to hold.
            create: whether to make the folder where there is none.

        Raises:
            UserError: a folder that holds something else, or that cannot be written to.
        """
        store = cls(folder)
        if (folder / MANIFEST).exists():
            if store.manifest()["sweep"] != _asked_for(sweep):
                raise UserError(f"{folder}: holds another sweep; choose another with --out, or remove it")
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            text = f"{folder}: expected a new folder or a run of this sweep, found something else"
            raise UserError(f"{text}; choose another with --out")
        elif create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _write_whole(folder / MANIFEST, json.dumps(_new_manifest(sweep), indent=2).encode())
            except OSError as error:
                raise UserError(f"{folder}: cannot be written to: {error.strerror}") from error
        return store

    @classmethod
    def existing(cls, folder: Path) -> "Store":
        """The store of a run that is there.

        Raises:
            UserError: no run there.
        """
        if not (folder / MANIFEST).is_file():
            text = f"{folder}: expected the folder of a run, found no {MANIFEST} in it"
            raise UserError(f"{text}; `leakbench sweep FILE --out {folder}` makes one")
        return cls(folder)

    def manifest(self) -> dict[str, Any]:
        """What `sweep.json` holds.

        Raises:
            UserError: unreadable, or of another version of the program.
        """
        path = self.folder / MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable: {error}") from error
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT or "sweep" not in manifest:
            text = f"{path}: expected format {FORMAT}, got {found!r}"
            raise UserError(f"{text}; it is from another version of leakbench")
        return manifest

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other writers out; the system frees the lock when this process ends, however it does.

        Raises:
            UserError: another process holds it.
        """
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.folder}: another process is running a sweep in it") from error
            yield

    def append(self, results: Sequence[Result]) -> None:
        """Store finished trials; what a row refers to is there before the row."""
        known = self._known_originals()
        new = {
            (result.row.dataset, result.row.index): result.trace.truth
            for result in results
            if result.trace is not None and (result.row.dataset, result.row.index) not in known
        }
        originals = [
            {"dataset": dataset, "index": index, **_pixels("image", image)}
            for (dataset, index), image in new.items()
        ]
        traces = [
            _trace_record(result.row.key, result.trace) for result in results if result.trace is not None
        ]
        self._write_part("originals.parquet", originals, ORIGINAL_SCHEMA)
        self._write_part("traces.parquet", traces, TRACE_SCHEMA)
        self._write_part("trials.parquet", [asdict(result.row) for result in results], ROW_SCHEMA)
        known.update(new)

    def keys(self) -> set[str]:
        """The keys of the trials that have a row."""
        return set(self._read("trials.parquet", ROW_SCHEMA, columns=["key"])["key"].to_pylist())

    def rows(self) -> pd.DataFrame:
        """The table: one row a trial, in a fixed order, with the dtypes of ROW_DTYPES."""
        table: pd.DataFrame = self._read("trials.parquet", ROW_SCHEMA).to_pandas(integer_object_nulls=True)
        order = ["dataset", "index", "model", "model_seed", "attack", "start", "family", "strength"]
        return table.astype(ROW_DTYPES).sort_values([*order, "defense", "key"], ignore_index=True)

    def traces(self, keys: Iterable[str]) -> dict[str, StoredTrace]:
        """{key: trace} of those trials among `keys` that have one."""
        table = self._read("traces.parquet", TRACE_SCHEMA, filters=[("key", "in", list(keys))])
        return {record["key"]: _stored_trace(record) for record in table.to_pylist()}

    def original(self, dataset: str, index: int) -> np.ndarray:
        """The true image (C, H, W), float32."""
        filters = [("dataset", "==", dataset), ("index", "==", index)]
        record = self._read("originals.parquet", ORIGINAL_SCHEMA, filters=filters).to_pylist()[0]
        return _picture(record["image"], record["shape"])

    def _known_originals(self) -> set[tuple[str, int]]:
        if self._originals is None:
            table = self._read("originals.parquet", ORIGINAL_SCHEMA, columns=["dataset", "index"])
            self._originals = {(record["dataset"], record["index"]) for record in table.to_pylist()}
        return self._originals

    def _read(self, name: str, schema: pa.Schema, **selection: Any) -> pa.Table:
        folder = self.folder / name
        if not folder.is_dir():
            columns = selection.get("columns")
            return schema.empty_table().select(columns) if columns else schema.empty_table()
        return pq.read_table(folder, schema=schema, **selection)

    def _write_part(self, name: str, records: list[dict[str, Any]], schema: pa.Schema) -> None:
        if not records:
            return
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        number = 1 + max((int(part.stem[5:]) for part in folder.glob("part-*.parquet")), default=0)
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(records, schema=schema), buffer, compression="zstd")
        _write_whole(folder / f"part-{number:06d}.parquet", buffer.getvalue().to_pybytes())


def _write_whole(path: Path, content: bytes) -> None:
    """A reader sees the old state or the new one, never a part of it."""
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _new_manifest(sweep: Sweep) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "file": str(sweep.file),
        "text": sweep.file.read_text(encoding="utf-8"),
        "sweep": _asked_for(sweep),
        "trials": len(sweep),
        "versions": {"python": platform.python_version(), **package_versions()},
    }


def package_versions() -> dict[str, str]:
    """{package: its version} of the installed ones among PACKAGES."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _asked_for(sweep: Sweep) -> Any:
    """What decides the rows, as JSON gives it back: tuples and lists compare equal."""
    return json.loads(json.dumps({"schema": SCHEMA_VERSION, **sweep.canonical()}))


def _trace_record(key: str, trace: Trace) -> dict[str, Any]:
    assert trace.reconstruction is not None
    return {
        "key": key,
        "match_loss": trace.match_loss,
        "image_mse": trace.image_mse,
        **_pixels("reconstruction", trace.reconstruction),
        "snapshot_steps": list(trace.snapshots),
        "snapshots": b"".join(_half_bytes(image) for image in trace.snapshots.values()),
    }


def _stored_trace(record: dict[str, Any]) -> StoredTrace:
    steps, shape = record["snapshot_steps"], record["shape"]
    return StoredTrace(
        np.array(record["match_loss"], dtype=np.float32),
        np.array(record["image_mse"], dtype=np.float32),
        _picture(record["reconstruction"], shape),
        dict(zip(steps, _picture(record["snapshots"], [len(steps), *shape]), strict=True)),
    )


def _pixels(name: str, image: Tensor) -> dict[str, Any]:
    return {"shape": list(image.shape), name: _half_bytes(image)}


def _half_bytes(image: Tensor) -> bytes:
    return image.nan_to_num().clamp(0, 1).numpy().astype("<f2").tobytes()


def _picture(content: bytes, shape: Sequence[int]) -> np.ndarray:
    return np.frombuffer(content, dtype="<f2").reshape(shape).astype(np.float32)
