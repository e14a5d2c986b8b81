"""The folder of a run.

RUN/sweep.json          what was asked for, and each session of running it
RUN/trials.parquet/     one row a trial; pandas reads the folder as one table
RUN/traces.parquet/     loss histories and reconstructions, read only when asked for
RUN/originals.parquet/  the images themselves, once each
RUN/trainings.parquet/  one row a training; only where there are some
RUN/indices.parquet/    security indices, one row a layer; only where they are asked for
RUN/checkpoints/        weights of trained models; only where they are asked for
RUN/left-out.parquet    keys of rows that the sweep file no longer asks for; only where there are some
RUN/set-aside/          parts that could not be read
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from leakbench.bench.attacks import Status
from leakbench.bench.training_row import Trained
from leakbench.bench.verdicts import Scale
from leakbench.core.errors import StoppedError, UserError
from leakbench.sweeps.indices import Indices
from leakbench.sweeps.manifest import (
    MANIFEST,
    asked_for,
    new_manifest,
    read_manifest,
    with_session,
    write_manifest,
)
from leakbench.sweeps.need import Score
from leakbench.sweeps.parts import Parts, write_whole
from leakbench.sweeps.records import (
    CURVE_COLUMNS,
    ORIGINAL_SCHEMA,
    ROW_DTYPES,
    ROW_SCHEMA,
    TRACE_SCHEMA,
    TRAINING_DTYPES,
    TRAINING_SCHEMA,
    Curves,
    Record,
    StoredTrace,
    picture,
    stored_curves,
    stored_trace,
)
from leakbench.sweeps.spec import Sweep

log = logging.getLogger("leakbench")
ORDER = [
    "dataset", "index", "model", "model_seed", "protocol", "attack", "start", "family", "strength", "defense",
    "key",
]  # fmt: skip


class Store:
    """Rows on disk. Any number of readers, one writer: the process that holds the lock."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._trials = Parts(folder / "trials.parquet", ROW_SCHEMA)
        self._traces = Parts(folder / "traces.parquet", TRACE_SCHEMA)
        self._originals = Parts(folder / "originals.parquet", ORIGINAL_SCHEMA)
        self._trainings = Parts(folder / "trainings.parquet", TRAINING_SCHEMA)
        self.indices = Indices(folder)
        self._known: set[tuple[str, int]] | None = None  # the originals that are stored

    @classmethod
    def open_for(cls, folder: Path, sweep: Sweep, fresh: bool = False, create: bool = True) -> "Store":
        """The store for a sweep, in a new folder or in the one that holds its rows already.

        Args:
            folder: of the run.
            sweep: what it is to hold. A file of the same name may have changed since.
            fresh: whether the folder has to be empty.
            create: whether to make the folder where there is none.

        Raises:
            UserError: a folder that holds something else, or that cannot be written to.
        """
        store = cls(folder)
        if fresh and folder.is_dir() and _holds_something(folder):
            text = f"{folder}: expected an empty folder, as --fresh asks for, found files"
            raise UserError(f"{text}; choose another with --out")
        if (folder / MANIFEST).exists():
            held = store.manifest()
            if held["sweep"] != asked_for(sweep) and Path(held["file"]).name != sweep.file.name:
                text = f"{folder}: holds the run of another sweep, {held['file']}"
                raise UserError(f"{text}; choose another with --out, or remove it")
        elif folder.exists() and (not folder.is_dir() or _holds_something(folder)):
            text = f"{folder}: expected a new folder or a run of this sweep, found something else"
            raise UserError(f"{text}; choose another with --out")
        elif create:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_manifest(folder, new_manifest(sweep))
            except OSError as error:
                raise UserError(f"{folder}: cannot be written to: {error.strerror}") from error
        return store

    @classmethod
    def existing(cls, folder: Path) -> "Store":
        """The store of a run that is there.

        Raises:
            UserError: no run there, or one of another version of the program.
        """
        if not (folder / MANIFEST).is_file():
            text = f"{folder}: expected the folder of a run, found no {MANIFEST} in it"
            raise UserError(f"{text}; `leakbench sweep FILE --out {folder}` makes one")
        store = cls(folder)
        store.manifest()
        return store

    def manifest(self) -> dict[str, Any]:
        """See `read_manifest`."""
        return read_manifest(self.folder)

    @property
    def scale(self) -> Scale:
        """What counts as a leak, as the sweep file has it."""
        return Scale(**self.manifest()["verdicts"])

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer; the system frees the lock when this process ends, however it does.

        Parts that cannot be read are set aside first, and so is the rest of what belonged to them.

        Raises:
            UserError: another process holds it, or the folder cannot be written to.
        """
        path = self.folder / ".lock"
        try:
            file = path.open("a+")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written to: {error.strerror}") from error
        with file:
            if not _locked(file):
                raise UserError(f"{self.folder}: {_holder(path)} is running a sweep in it")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
            self._repair()
            yield

    def runner(self) -> str:
        """`process 17 on host` that is running a sweep in the folder; empty where none is."""
        path = self.folder / ".lock"
        if not path.exists():
            return ""
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(path)
        return ""

    def begin(
        self,
        sweep: Sweep,
        devices: list[str],
        hardware: Iterable[str],
        kept: int,
        left_out: Collection[str],
    ) -> None:
        """Note a session of running in the manifest, and which rows the sweep does not ask for."""
        with self._writing():
            path = self.folder / "left-out.parquet"
            if left_out:
                table = pa.table({"key": sorted(left_out)})
                write_whole(path, lambda file: pq.write_table(table, file, compression="zstd"))
            else:
                path.unlink(missing_ok=True)
            write_manifest(self.folder, with_session(self.manifest(), sweep, devices, hardware, kept))

    def note_settled(self, trials: Mapping[str, int]) -> None:
        """Note how many trials of each defense are not needed, as their victims have leaked."""
        with self._writing():
            write_manifest(self.folder, {**self.manifest(), "settled": dict(trials)})

    def note_indices(self, keys: Sequence[str]) -> None:
        """Note which security indices the sweep asks for."""
        with self._writing():
            write_manifest(self.folder, {**self.manifest(), "indices": list(keys)})

    def index_rows(self) -> pd.DataFrame:
        """The security indices that the sweep asks for, one row a layer."""
        return self.indices.rows(self.manifest().get("indices", []))

    def append(self, records: Sequence[Record]) -> None:
        """Store finished trials; what a row refers to is there before the row.

        Raises:
            StoppedError: they cannot be written; what was stored before is untouched.
        """
        if self._known is None:
            self._known = self._stored_originals()
        originals = {
            (original["dataset"], original["index"]): original
            for record in records
            for original in record.originals
        }
        new = {place: original for place, original in originals.items() if place not in self._known}
        lost = f"{len(records)} finished trial{'s' * (len(records) > 1)}"
        with self._writing(f"; {lost} could not be stored and will run again"):
            self._originals.append(list(new.values()))
            self._traces.append([record.trace for record in records if record.trace is not None])
            self._trials.append([record.row for record in records])
        self._known.update(new)

    def records(self, keys: Collection[str]) -> list[Record]:
        """Those of these trials that are here and have a result, as they were stored."""
        found = self._trials.find("key", keys)
        rows = {row["key"]: row for row in found if Status(row["status"]).has_result}
        traces = {trace["key"]: trace for trace in self._traces.find("key", rows)}
        places = {key: _places(rows[key], trace) for key, trace in traces.items()}
        indices = {index for own in places.values() for _, index in own}
        originals = {
            (each["dataset"], each["index"]): each for each in self._originals.find("index", indices)
        }
        return [
            Record(rows[key], trace, [originals[place] for place in places[key]])
            for key, trace in traces.items()
            if all(place in originals for place in places[key])
        ]

    def training_records(self, keys: Collection[str]) -> list[dict[str, Any]]:
        """Those of these trainings that are here and have a result, as they were stored."""
        return [row for row in self._trainings.find("key", keys) if Status(row["status"]).has_result]

    def append_trainings(self, records: list[dict[str, Any]]) -> None:
        """Store rows of trainings, as another store has them.

        Raises:
            StoppedError: they cannot be written.
        """
        with self._writing():
            self._trainings.append(records)

    def unrequested(self) -> tuple[list[str], list[str]]:
        """Keys of the trials, and of the trainings, that are stored and that the sweep no longer asks for."""
        return self._left_out(), sorted(self.trained() - set(self.manifest().get("trainings", [])))

    def tidy(self) -> int:
        """Remove the rows that are not requested, with their traces; how many bytes that frees.

        The lock is held. Images and weights that were kept stay.

        Raises:
            StoppedError: the folder cannot be written to; what was removed until then is gone.
        """
        before = self._size()
        trials, trainings = self.unrequested()
        with self._writing():
            for parts in (self._trials, self._traces):
                parts.remove("key", trials)
            self._trainings.remove("key", trainings)
            (self.folder / "left-out.parquet").unlink(missing_ok=True)
        return before - self._size()

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*.parquet") if path.is_file())

    def merge(self) -> None:
        """Merge small parts where there are many; that it fails is no harm."""
        for parts in (self._trials, self._traces, self._originals):
            try:
                parts.merge()
            except OSError as error:
                log.warning("%s: parts are not merged: %s", parts.folder, error.strerror or error)

    def statuses(self) -> dict[str, str]:
        """{key: status} of every trial that has a row, also of those that are left out."""
        table = self._trials.read(["key", "status"])
        return dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))

    def scores(self) -> dict[str, Score]:
        """{key: score} of every trial that has a result, also of those that are left out."""
        table = self._trials.read(["key", "objective", "ssim"])
        columns = (table[name].to_pylist() for name in ("key", "objective", "ssim"))
        rows = zip(*columns, strict=True)
        return {key: Score(objective, ssim) for key, objective, ssim in rows if ssim is not None}

    def forget(self, keys: Collection[str]) -> None:
        """Remove the rows of trials, with their traces, so that they run again."""
        with self._writing():
            for parts in (self._traces, self._trials):  # a row without a trace is shown, not the other way
                parts.remove("key", keys)

    def last_written(self) -> float | None:
        """When the newest rows came, in seconds since 1970; None before the first."""
        return self._trials.last_written()

    def rows(self) -> pd.DataFrame:
        """The table: one row a trial that the sweep asks for, in a fixed order, dtypes as ROW_DTYPES."""
        table = self._trials.read()
        left_out = self._left_out()
        if left_out:
            table = table.filter(pa.compute.invert(pa.compute.is_in(table["key"], pa.array(left_out))))
        rows: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
        return rows.astype(ROW_DTYPES).sort_values(ORDER, ignore_index=True)

    def traces(self, keys: Collection[str]) -> dict[str, StoredTrace]:
        """{key: trace} of those trials among `keys` that have one."""
        return {record["key"]: stored_trace(record) for record in self._traces.find("key", keys)}

    def histories(self, keys: Collection[str]) -> dict[str, np.ndarray]:
        """{key: the objective at the start and after each outer step} of those of them that have a trace."""
        table = self._traces.read(["key", "objective"], keys)
        objectives = (np.array(each, dtype=np.float32) for each in table["objective"].to_pylist())
        return dict(zip(table["key"].to_pylist(), objectives, strict=True))

    def curves(self, keys: Collection[str]) -> dict[str, Curves]:
        """{key: curves} of those trials among `keys` that have a trace; its pictures are not read."""
        table = self._traces.read(CURVE_COLUMNS, keys)
        return {record["key"]: stored_curves(record) for record in table.to_pylist()}

    def originals(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], np.ndarray]:
        """{dataset and index: true image (C, H, W), float32} of those that are there."""
        wanted = set(places)
        found = self._originals.find("index", {index for _, index in wanted})
        pictures = {(each["dataset"], each["index"]): each for each in found}
        return {
            place: picture(own["image"], own["shape"]) for place, own in pictures.items() if place in wanted
        }

    def begin_training(
        self,
        sweep: Sweep,
        devices: list[str],
        hardware: Iterable[str],
        keys: list[str],
        retry_errors: bool,
    ) -> set[str]:
        """Note a session of training and which rows it is about; the keys of those that are done."""
        table = self._trainings.read(["key", "status"]).to_pydict()
        done = set(table["key"])
        failed = {key for key, status in zip(*table.values(), strict=True) if status == Status.ERROR}
        with self._writing():
            if retry_errors:
                self._trainings.remove("key", failed & set(keys))
                done -= failed
            kept = len(done & set(keys))
            manifest = with_session(self.manifest(), sweep, devices, hardware, kept, "training_sessions")
            write_manifest(self.folder, {**manifest, "trainings": keys})
        return done

    def trained(self) -> set[str]:
        """Keys of all trainings that have a row."""
        return set(self._trainings.read(["key"])["key"].to_pylist())

    def append_trained(self, trained: Sequence[Trained], done: Collection[str]) -> None:
        """Store trainings that have ended, if no row is there yet, after the weights that are kept of them.

        Raises:
            StoppedError: they cannot be written.
        """
        with self._writing():
            for each in trained:
                for epoch, weights in each.weights.items():
                    path = self.checkpoint(each.row.model, each.row.defense, each.row.seed, epoch)
                    path.parent.mkdir(exist_ok=True)
                    write_whole(path, partial(torch.save, weights))
            self._trainings.append([asdict(each.row) for each in trained if each.row.key not in done])

    def checkpoint(self, model: str, defense: str, seed: int, epoch: int) -> Path:
        """Where the weights after that epoch are kept."""
        names = (re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") for name in (model, defense))
        return self.folder / "checkpoints" / f"{'-'.join(names)}-seed{seed}-epoch{epoch}.pt"

    def trainings(self) -> pd.DataFrame:
        """One row a training that the sweep asks for, in its order, dtypes as TRAINING_DTYPES."""
        asked = {key: place for place, key in enumerate(self.manifest().get("trainings", []))}
        rows: pd.DataFrame = self._trainings.read().to_pandas(integer_object_nulls=True)
        rows = rows[rows["key"].isin(asked.keys())].astype(TRAINING_DTYPES)
        return rows.sort_values("key", key=lambda keys: keys.map(asked), ignore_index=True)

    def _left_out(self) -> list[str]:
        try:
            keys: list[str] = pq.read_table(self.folder / "left-out.parquet")["key"].to_pylist()
        except FileNotFoundError:
            return []
        return keys

    def _stored_originals(self) -> set[tuple[str, int]]:
        table = self._originals.read(["dataset", "index"])
        return set(zip(table["dataset"].to_pylist(), table["index"].to_pylist(), strict=True))

    def _repair(self) -> None:
        """Set aside what cannot be read, and forget the rows whose trace or original was in it."""
        with self._writing():
            for parts in (self._trials, self._traces, self._originals, self._trainings):
                while parts.set_bad_aside(self.folder / "set-aside"):
                    pass  # what a bad part was merged from may have come to light
                parts.clean()
            traced = set(self._traces.read(["key"])["key"].to_pylist())
            pictured = self._stored_originals()
            columns = ["key", "dataset", "index", "status"]
            table = self._trials.read(columns)
            rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
            lost = [
                key
                for key, dataset, index, status in rows
                if Status(status).has_result and (key not in traced or (dataset, index) not in pictured)
            ]
            self._trials.remove("key", lost)

    @contextmanager
    def _writing(self, lost: str = "") -> Iterator[None]:
        """A disk that is full or broken ends the sweep with a sentence."""
        try:
            yield
        except OSError as error:
            text = f"{self.folder}: cannot be written to: {error.strerror or error}{lost}"
            raise StoppedError(f"{text}; what was stored is kept: the same command runs the rest") from error


def _places(row: dict[str, Any], trace: dict[str, Any]) -> list[tuple[str, int]]:
    """Data set and index of every image of a trial."""
    return [(row["dataset"], index) for index in range(row["index"], row["index"] + trace["shape"][0])]


def _locked(file: TextIO) -> bool:
    """Whether the lock was got; `leakbench status` holds it for a moment, too."""
    for _ in range(3):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return True
    return False


def _holds_something(folder: Path) -> bool:
    """Besides hidden files, such as the draft that a killed process leaves."""
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _holder(path: Path) -> str:
    return path.read_text() or "another process"
