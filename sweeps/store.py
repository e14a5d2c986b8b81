"""The folder of a run.

RUN/sweep.json          what was asked for, and each session of running it
RUN/trials.parquet/     one row per trial; pandas reads the folder as one table
RUN/traces.parquet/     loss histories and reconstructions, read only when asked for
RUN/originals.parquet/  the images themselves, once each
RUN/trainings.parquet/  one row per training; only where there are some
RUN/indices.parquet/    security indices, one row per layer; only where they are asked for
RUN/checkpoints/        weights of trained models; only where they are asked for
RUN/left-out-TABLE.parquet  keys of rows that the sweep file no longer requests; only where there are some
RUN/set-aside/          parts that could not be read
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from leakbench.bench.attacks import Status
from leakbench.bench.verdicts import Scale
from leakbench.core.errors import RUNS_THE_REST, StoppedError, UserError
from leakbench.sweeps.indices import Indices
from leakbench.sweeps.lock import locked, writer_of
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
    Curves,
    Example,
    Record,
    StoredTrace,
    stored_curves,
    stored_original,
    stored_trace,
)
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.tables import CURVE_COLUMNS, ORIGINALS, TABLES, TRAININGS, TRIALS, Table

log = logging.getLogger("leakbench")
ORDER = {
    "trials": [
        "dataset", "index", "model", "model_seed", "protocol", "attack", "start", "family", "strength",
        "defense", "key",
    ],
    "trainings": [
        "train", "test", "model", "protocol", "recipe", "seed", "family", "strength", "defense", "key",
    ],
}  # fmt: skip


class Store:
    """Rows on disk. Any number of readers, one writer: the process that holds the lock."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._parts = {table.name: Parts(folder / f"{table.name}.parquet", table.schema) for table in TABLES}
        self._known: dict[str, set[tuple[Any, ...]]] = {}  # {table: identities that are stored}
        self.indices = Indices(folder)

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
        with locked(self.folder):
            self._repair()
            yield

    def runner(self) -> str:
        """See `writer_of`."""
        return writer_of(self.folder)

    def begin(
        self,
        table: Table,
        sweep: Sweep,
        devices: list[str],
        hardware: Iterable[str],
        kept: int,
        left_out: Collection[str],
    ) -> None:
        """Note a session of running in the manifest, and which rows the sweep does not request."""
        with self._writing():
            path = self._left_out_path(table)
            if left_out:
                keys = pa.table({"key": sorted(left_out)})
                write_whole(path, lambda file: pq.write_table(keys, file, compression="zstd"))
            else:
                path.unlink(missing_ok=True)
            manifest = with_session(self.manifest(), table, sweep, devices, hardware, kept)
            write_manifest(self.folder, manifest)

    def note(self, what: str, value: Any) -> None:
        """Note something else in the manifest, such as how many trials are not needed."""
        manifest = self.manifest()
        if manifest.get(what, type(value)()) != value:
            with self._writing():
                write_manifest(self.folder, {**manifest, what: value})

    def append(self, records: Sequence[Record]) -> None:
        """Store finished jobs; what a row refers to is there before the row.

        Raises:
            StoppedError: they cannot be written; what was stored before is untouched.
        """
        rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            rows[record.table].append(record.row)
            for name, others in record.others.items():
                rows[name] += others
        lost = f"{len(records)} finished {records[0].table.removesuffix('' if records[1:] else 's')}"
        with self._writing(f"; {lost} could not be stored and will run again"):
            for record in records:
                for name, content in record.files.items():
                    self._write_file(self.folder / name, content)
            for table in TABLES:
                self._append(table, rows[table.name])

    def _append(self, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        if not table.once:
            self._parts[table.name].append(rows)
            return
        stored = self._identities(table)
        new = {tuple(row[column] for column in table.identity): row for row in rows}
        self._parts[table.name].append([row for place, row in new.items() if place not in stored])
        stored.update(new)

    def _identities(self, table: Table) -> set[tuple[Any, ...]]:
        """Of the stored rows."""
        if table.name not in self._known:
            columns = self._parts[table.name].read(list(table.identity)).to_pydict().values()
            self._known[table.name] = set(zip(*columns, strict=True))
        return self._known[table.name]

    def _write_file(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, lambda file: file.write(content))

    def records(self, table: Table, keys: Collection[str]) -> list[Record]:
        """Those of these jobs that are here and have a result, as they were stored."""
        found = self._parts[table.name].find("key", keys)
        rows = {row["key"]: row for row in found if Status(row["status"]).has_result}
        if table is not TRIALS:
            return [Record(table.name, row) for row in rows.values()]
        traces = {trace["key"]: trace for trace in self._parts["traces"].find("key", rows)}
        places = {key: _places(rows[key], trace) for key, trace in traces.items()}
        indices = {index for own in places.values() for _, index in own}
        originals = {
            (each["dataset"], each["index"]): each for each in self._parts["originals"].find("index", indices)
        }
        return [
            Record(
                table.name,
                rows[key],
                {"traces": [trace], "originals": [originals[place] for place in places[key]]},
            )
            for key, trace in traces.items()
            if all(place in originals for place in places[key])
        ]

    def unrequested(self) -> dict[Table, list[str]]:
        """{table: keys of the rows that are stored and that the sweep no longer requests}."""
        return {table: self._left_out(table) for table in (TRIALS, TRAININGS)}

    def tidy(self) -> int:
        """Remove the rows that are not requested, with their traces; how many bytes that frees.

        The lock is held. Images and weights that were kept stay.

        Raises:
            StoppedError: the folder cannot be written to; what was removed until then is gone.
        """
        before = self._size()
        for table, keys in self.unrequested().items():
            self.forget(table, keys)
            self._left_out_path(table).unlink(missing_ok=True)
        return before - self._size()

    def _size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*.parquet") if path.is_file())

    def merge(self) -> None:
        """Merge small parts where there are many; that it fails is no harm."""
        for parts in self._parts.values():
            try:
                parts.merge()
            except OSError as error:
                log.warning("%s: parts are not merged: %s", parts.folder, error.strerror or error)

    def statuses(self, table: Table = TRIALS) -> dict[str, str]:
        """{key: status} of every job that has a row, also of those that are not requested."""
        found = self._parts[table.name].read(["key", "status"])
        return dict(zip(found["key"].to_pylist(), found["status"].to_pylist(), strict=True))

    def scores(self) -> dict[str, Score]:
        """{key: score} of every trial that has one, also of those that are not requested.

        A trial whose truth is unknown has none: nobody can say that it leaked.
        """
        table = self._parts["trials"].read(["key", "objective", "score"])
        columns = (table[name].to_pylist() for name in ("key", "objective", "score"))
        rows = zip(*columns, strict=True)
        return {key: Score(objective, score) for key, objective, score in rows if score is not None}

    def forget(self, table: Table, keys: Collection[str]) -> None:
        """Remove the rows of jobs, with their traces, so that they run again."""
        with self._writing():
            if table is TRIALS:  # first: a trace without a row is not shown, a row without a trace is
                self._parts["traces"].remove("key", keys)
            self._parts[table.name].remove("key", keys)
        self._known.pop(table.name, None)

    def last_written(self) -> float | None:
        """When the newest rows came, in seconds since 1970; None before the first."""
        return self._parts["trials"].last_written()

    def rows(self, table: Table = TRIALS) -> pd.DataFrame:
        """One row per job that the sweep requests, in a fixed order, dtypes as `Table.dtypes`."""
        found = self._parts[table.name].read()
        left_out = self._left_out(table)
        if left_out:
            found = found.filter(pa.compute.invert(pa.compute.is_in(found["key"], pa.array(left_out))))
        rows: pd.DataFrame = found.to_pandas(integer_object_nulls=True)
        return rows.astype(table.dtypes).sort_values(ORDER[table.name], ignore_index=True)

    def index_rows(self) -> pd.DataFrame:
        """The security indices that the sweep requests, one row per layer."""
        return self.indices.rows(self.manifest().get("indices", []))

    def traces(self, keys: Collection[str]) -> dict[str, StoredTrace]:
        """{key: trace} of those trials among `keys` that have one."""
        return {record["key"]: stored_trace(record) for record in self._parts["traces"].find("key", keys)}

    def histories(self, keys: Collection[str]) -> dict[str, np.ndarray]:
        """{key: the objective at the start and after each outer step} of those of them that have a trace."""
        table = self._parts["traces"].read(["key", "objective"], keys)
        objectives = (np.array(each, dtype=np.float32) for each in table["objective"].to_pylist())
        return dict(zip(table["key"].to_pylist(), objectives, strict=True))

    def curves(self, keys: Collection[str]) -> dict[str, Curves]:
        """{key: curves} of those trials among `keys` that have a trace; its pictures are not read."""
        table = self._parts["traces"].read(CURVE_COLUMNS, keys)
        return {record["key"]: stored_curves(record) for record in table.to_pylist()}

    def originals(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Example]:
        """{dataset and index: the true example} of those that are there."""
        wanted = set(places)
        found = self._parts["originals"].find("index", {index for _, index in wanted})
        known = {(each["dataset"], each["index"]): each for each in found}
        return {place: stored_original(own) for place, own in known.items() if place in wanted}

    def _left_out_path(self, table: Table) -> Path:
        return self.folder / f"left-out-{table.name}.parquet"

    def _left_out(self, table: Table) -> list[str]:
        try:
            keys: list[str] = pq.read_table(self._left_out_path(table))["key"].to_pylist()
        except FileNotFoundError:
            return []
        return keys

    def _repair(self) -> None:
        """Set aside what cannot be read, and forget the rows whose trace or original was in it."""
        self._known.clear()
        with self._writing():
            for parts in self._parts.values():
                parts.repair(self.folder / "set-aside")
            self.indices.repair(self.folder / "set-aside")
            traced = set(self._parts["traces"].read(["key"])["key"].to_pylist())
            pictured = self._identities(ORIGINALS)
            columns = ["key", "dataset", "index", "status", "score"]  # no score: the truth is unknown
            table = self._parts["trials"].read(columns)
            rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
            lost = [
                key
                for key, dataset, index, status, score in rows
                if Status(status).has_result
                and (key not in traced or (score is not None and (dataset, index) not in pictured))
            ]
            self._parts["trials"].remove("key", lost)

    @contextmanager
    def _writing(self, lost: str = "") -> Iterator[None]:
        """A disk that is full or broken ends the sweep with a sentence."""
        try:
            yield
        except OSError as error:
            text = f"{self.folder}: cannot be written to: {error.strerror or error}{lost}"
            raise StoppedError(f"{text}; what was stored is kept: {RUNS_THE_REST}") from error


def _places(row: dict[str, Any], trace: dict[str, Any]) -> list[tuple[str, int]]:
    """Dataset and index of every example of a trial; none where the truth is unknown."""
    if row["score"] is None:
        return []
    return [(row["dataset"], index) for index in range(row["index"], row["index"] + trace["shape"][0])]


def _holds_something(folder: Path) -> bool:
    """Besides hidden files, such as the draft that a killed process leaves."""
    return any(not path.name.startswith(".") for path in folder.iterdir())
