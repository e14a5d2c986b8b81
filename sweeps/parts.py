"""A table that only grows: a folder of parquet files, each written whole and renamed into place.

part-000007.parquet          what was appended as the seventh
part-000001-000064.parquet   the first 64, merged; it stands for them while they are still there
"""

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

T = TypeVar("T")
log = logging.getLogger("leakbench")

FAN_IN = 64  # parts of one size that are merged into one of the next
LARGEST = 256 * 2**20  # bytes; no more are merged at once
GROUP = 256  # rows of a row group at least, after a merge: what is read to find one row
_NAME = re.compile(r"part-(\d+)(?:-(\d+))?\.parquet")


@dataclass(frozen=True, order=True)
class Part:
    """A file, and which of the appended ones it holds."""

    first: int
    last: int
    path: Path

    @property
    def level(self) -> int:
        """How many merges it went through."""
        span, level = self.last - self.first + 1, 0
        while span >= FAN_IN:
            span, level = span // FAN_IN, level + 1
        return level

    def covers(self, other: "Part") -> bool:
        """Whether `other` was merged into it."""
        return self.first <= other.first and other.last <= self.last and self.path != other.path


class BadPartError(Exception):
    """A part that cannot be read, and why."""


class Parts:
    """One table of a run. Any number of readers, one writer.

    Args:
        folder: of the files; made when the first is written.
        schema: of every file. Its metadata is compared as well: it tells versions apart.
    """

    def __init__(self, folder: Path, schema: pa.Schema):
        self.folder = folder
        self.schema = schema
        self._newest: int | None = None  # number of the last part written; None before the first
        self._unmerged: set[Part] = set()  # those that stay as they are, for one among them is bad

    def append(self, records: list[dict[str, Any]]) -> None:
        """Write the records as a part of their own. Only the writer may.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        if not records:
            return
        if self._newest is None:
            self.folder.mkdir(exist_ok=True)
            self.clean()
            self._newest = max((part.last for part in self.parts()), default=0)
        table = pa.Table.from_pylist(records, schema=self.schema)
        self._write(self.folder / f"part-{self._newest + 1:06d}.parquet", [table])
        self._newest += 1

    def read(self, columns: list[str] | None = None, keys: Collection[str] | None = None) -> pa.Table:
        """All rows of all sound parts, or those with these keys; other parts are skipped with a warning."""
        wanted = None if keys is None else pa.array(list(keys), pa.string())

        def read_part(file: pq.ParquetFile) -> pa.Table:
            table = file.read(columns=columns)
            return table if wanted is None else table.filter(pc.is_in(table["key"], wanted))

        tables = self._each(read_part)
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def find(self, name: str, wanted: Collection[Any]) -> list[dict[str, Any]]:
        """The records whose column `name` is among `wanted`; of the rest, only that column is read."""
        values = pa.array(list(wanted), type=self.schema.field(name).type)

        def search(file: pq.ParquetFile) -> list[dict[str, Any]]:
            groups = [
                group
                for group in range(file.num_row_groups)
                if pc.any(pc.is_in(file.read_row_group(group, [name])[name], values)).as_py()
            ]
            tables = (file.read_row_group(group) for group in groups)
            return [
                record
                for table in tables
                for record in table.filter(pc.is_in(table[name], values)).to_pylist()
            ]

        return [record for records in self._each(search) for record in records] if len(wanted) else []

    def set_bad_aside(self, aside: Path) -> list[Path]:
        """Move every part that cannot be read to the folder `aside`; returns where they are now."""
        moved = []
        for part in self.parts():
            try:
                with self._open(part) as file:
                    for _ in file.iter_batches():  # every page has a checksum
                        pass
            except BadPartError as error:
                aside.mkdir(parents=True, exist_ok=True)
                names = (f"{self.folder.stem}-{part.path.name}{'.' * bool(n)}{n or ''}" for n in range(10**6))
                place = next(aside / name for name in names if not (aside / name).exists())
                part.path.rename(place)
                log.warning("%s: %s; set aside as %s, what it held runs again", part.path, error, place)
                moved.append(place)
        return moved

    def repair(self, aside: Path) -> None:
        """Set aside what cannot be read, and `clean`. Only the writer may."""
        while self.set_bad_aside(aside):
            pass  # what a bad part was merged from may have come to light
        self.clean()

    def remove(self, name: str, unwanted: Collection[Any]) -> None:
        """Write the parts that hold such rows again, without them. Only the writer may."""
        values = pa.array(list(unwanted), type=self.schema.field(name).type)
        for part in self.parts() if len(values) else []:
            with self._open(part) as file:
                table = file.read()
            held = pc.is_in(table[name], values)
            if pc.any(held).as_py():
                self._write(part.path, [table.filter(pc.invert(held))])

    def merge(self) -> None:
        """Put many small parts together, so that a long run does not become a folder of many files."""
        while batch := self._batch():
            name = f"part-{batch[0].first:06d}-{batch[-1].last:06d}.parquet"
            try:
                self._write(self.folder / name, _grouped(self._tables(batch)))
            except BadPartError as error:
                log.warning("%s: some parts are not merged: one is %s", self.folder, error)
                self._unmerged.update(batch)
            self.clean()

    def _batch(self) -> list[Part]:
        """FAN_IN parts of one level, with no other between them; empty where there are none."""
        for _, run in groupby(self.parts(), key=lambda part: (part.level, part in self._unmerged)):
            side_by_side = list(run)
            if side_by_side[0] in self._unmerged:
                continue
            for first in range(0, len(side_by_side) - FAN_IN + 1, FAN_IN):
                batch = side_by_side[first : first + FAN_IN]
                if sum(part.path.stat().st_size for part in batch) <= LARGEST:
                    return batch
        return []

    def clean(self) -> None:
        """Remove drafts that a dead writer left, and parts that are in a merged one."""
        for part in set(self._everything()) - set(self.parts()):
            part.path.unlink()
        for draft in self.folder.glob(".*.tmp"):
            draft.unlink()

    def last_written(self) -> float | None:
        """When the newest part was written, in seconds since 1970; None before the first."""
        times = []
        for part in self.parts():
            with suppress(FileNotFoundError):  # merged in between
                times.append(part.path.stat().st_mtime)
        return max(times, default=None)

    def parts(self) -> list[Part]:
        """What is there, in the order in which it was appended."""
        everything = self._everything()
        merged = [part for part in everything if part.last > part.first]
        return [part for part in everything if not any(other.covers(part) for other in merged)]

    def _everything(self) -> list[Part]:
        before = None
        while (found := self._look()) != before:  # a folder that changes meanwhile may be seen in part
            before = found
        return found

    def _look(self) -> list[Part]:
        matches = [(_NAME.fullmatch(path.name), path) for path in self.folder.glob("part-*.parquet")]
        return sorted(Part(int(m[1]), int(m[2] or m[1]), path) for m, path in matches if m)

    def _each(self, use: Callable[[pq.ParquetFile], T]) -> list[T]:
        """What `use` gives for every sound part, even while the writer merges some of them."""
        for _ in range(100):
            found = []
            try:
                for part in self.parts():
                    try:
                        with self._open(part) as file:
                            found.append(use(file))
                    except BadPartError as error:
                        text = "%s: %s; skipped: `leakbench sweep` sets it aside and runs its trials again"
                        log.warning(text, part.path, error)
            except FileNotFoundError:
                continue  # merged between the look and the reading: look again
            return found
        raise FileNotFoundError(self.folder)

    def _open(self, part: Part) -> AbstractContextManager[pq.ParquetFile]:
        return _reading(part.path, self.schema)

    def _tables(self, parts: Iterable[Part]) -> Iterator[pa.Table]:
        for part in parts:
            with self._open(part) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group)

    def _write(self, path: Path, tables: Iterable[pa.Table]) -> None:
        """A row group a table. A reader sees the old state or the new one, never a part of it."""

        def write(sink: pa.NativeFile) -> None:
            with pq.ParquetWriter(sink, self.schema, compression="zstd", write_page_checksum=True) as writer:
                for table in tables:
                    writer.write_table(table)

        write_whole(path, write)


@contextmanager
def _reading(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """A part that is open; what is wrong with it, at the opening or later, is a BadPartError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            if not found.equals(schema) or found.metadata != schema.metadata:
                raise BadPartError("written by another version of leakbench")
            yield file
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's trouble, not the file's
            raise
        raise BadPartError(f"torn ({' '.join(str(error).split())[:120]})") from error


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of GROUP rows or more."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(each.num_rows for each in gathered) >= GROUP:
            yield pa.concat_tables(gathered).combine_chunks()
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered).combine_chunks()


def write_whole(path: Path, write: Callable[[Any], object]) -> None:
    """Let `write` fill a file, which then takes the place of `path`: all of it or nothing.

    Raises:
        OSError: it cannot be written; no draft is left.
    """
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
