"""A table of many files: what a reader sees while files are written, torn, merged."""

import os
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from leakbench.sweeps import parts as module
from leakbench.sweeps.parts import Parts

SCHEMA = pa.schema([("key", pa.string()), ("number", pa.int64())], metadata={"leakbench": "1"})


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "table", SCHEMA)


def records(*numbers):
    return [{"key": f"k{number}", "number": number} for number in numbers]


def numbers(table):
    return table.read()["number"].to_pylist()


def names(table):
    return sorted(path.name for path in table.folder.iterdir())


def fill(parts, count):
    for number in range(count):
        parts.append(records(number))
        parts.merge()


def test_what_is_appended_is_read_in_order(parts):
    fill(parts, 3)
    parts.append([])
    assert numbers(parts) == [0, 1, 2]
    assert names(parts) == [f"part-00000{n}.parquet" for n in (1, 2, 3)]
    assert parts.read(["key"]).column_names == ["key"]
    assert numbers(Parts(parts.folder.parent / "nowhere", SCHEMA)) == []


def test_another_writer_goes_on_counting(parts):
    fill(parts, 2)
    Parts(parts.folder, SCHEMA).append(records(7))
    assert numbers(parts) == [0, 1, 7]


@pytest.mark.parametrize("name", ["key", "number"])
def test_records_are_found_by_a_column(parts, name):
    fill(parts, 5)
    wanted = {"key": ["k3", "k1", "none"], "number": [3, 1, 99]}[name]
    assert sorted(record["number"] for record in parts.find(name, wanted)) == [1, 3]
    assert parts.find(name, []) == []


def tear(path):
    """As a copy that broke off, or a disk that lied about what it had written."""
    path.write_bytes(path.read_bytes()[:-20])


def spoil(path):
    """A byte in the middle of a page of data is another."""
    content = bytearray(path.read_bytes())
    content[4 + 30] ^= 0xFF
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


def other_schema(path):
    pq.write_table(pa.table({"key": ["k1"]}), path)


def other_version(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata({"leakbench": "0"}), path)


DAMAGE = [tear, spoil, empty, other_schema, other_version]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_reader_leaves_a_bad_part_out_and_says_so(parts, damage, caplog):
    fill(parts, 3)
    damage(parts.folder / "part-000002.parquet")
    assert numbers(parts) == [0, 2]
    assert parts.find("number", [0, 1, 2]) == records(0, 2)
    reason = "written by another version" if damage in (other_schema, other_version) else "torn"
    assert f"table/part-000002.parquet: {reason}" in caplog.text
    assert "skipped: `leakbench sweep` sets it aside" in caplog.text


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_writer_sets_a_bad_part_aside(parts, tmp_path, damage, caplog):
    for _ in range(2):  # once more under the same name
        fill(parts, 3)
        damage(parts.parts()[-1].path)
        content = parts.parts()[-1].path.read_bytes()
        (moved,) = parts.set_bad_aside(tmp_path / "aside")
        assert moved.read_bytes() == content
        assert f"set aside as {moved}, what it held runs again" in caplog.text
        parts = Parts(parts.folder, SCHEMA)
    assert len(list((tmp_path / "aside").iterdir())) == 2
    caplog.clear()
    assert numbers(parts) == [0, 1, 0, 1]
    assert parts.set_bad_aside(tmp_path / "aside") == []
    assert not caplog.text


def test_rows_are_removed_where_they_are(parts):
    parts.append(records(1, 2))
    parts.append(records(3))
    untouched = (parts.folder / "part-000002.parquet").stat().st_mtime_ns
    parts.remove("key", ["k1", "k99"])
    assert numbers(parts) == [2, 3]
    assert (parts.folder / "part-000002.parquet").stat().st_mtime_ns == untouched
    parts.remove("key", ["k2", "k3"])
    assert numbers(parts) == []


def test_many_parts_become_few(parts, monkeypatch):
    monkeypatch.setattr(module, "FAN_IN", 4)
    monkeypatch.setattr(module, "GROUP", 3)
    fill(parts, 22)
    assert names(parts) == [
        "part-000001-000016.parquet",
        "part-000017-000020.parquet",
        "part-000021.parquet",
        "part-000022.parquet",
    ]
    assert numbers(parts) == list(range(22))
    assert pd.read_parquet(parts.folder)["number"].tolist() == list(range(22))
    assert pq.ParquetFile(parts.parts()[0].path).num_row_groups == 5  # of three rows or more
    assert parts.find("number", [5]) == records(5)
    Parts(parts.folder, SCHEMA).append(records(22))
    assert numbers(parts) == list(range(23))


def test_a_merge_takes_nothing_with_it_that_it_does_not_hold(parts, monkeypatch, caplog):
    """Parts that stay apart, torn or large, lie between others that are merged."""
    monkeypatch.setattr(module, "FAN_IN", 4)
    fill(parts, 4)
    for number in range(4, 8):
        parts.append(records(number))
    tear(parts.folder / "part-000006.parquet")
    parts.merge()
    for number in range(8, 100):
        parts.append(records(number))
        parts.merge()
    assert numbers(parts) == [number for number in range(100) if number != 5]
    assert numbers(Parts(parts.folder, SCHEMA)) == numbers(parts)
    assert len(parts.parts()) < 20


def test_large_parts_stay_as_they_are(parts, monkeypatch):
    monkeypatch.setattr(module, "FAN_IN", 4)
    monkeypatch.setattr(module, "LARGEST", 1000)
    fill(parts, 8)
    assert len(parts.parts()) == 8


def test_a_merge_that_died_before_its_end_is_no_matter(parts, monkeypatch):
    """The merged part is there, and the old ones still are: nothing counts twice."""
    monkeypatch.setattr(module, "FAN_IN", 4)
    monkeypatch.setattr(Parts, "clean", lambda _parts: None)
    fill(parts, 4)
    monkeypatch.undo()
    (parts.folder / ".part-000005.parquet.tmp").write_bytes(b"PAR1 torn")
    assert len(names(parts)) == 6
    assert numbers(parts) == [0, 1, 2, 3]
    Parts(parts.folder, SCHEMA).append(records(4))
    assert names(parts) == ["part-000001-000004.parquet", "part-000005.parquet"]
    assert numbers(parts) == [0, 1, 2, 3, 4]


def test_a_bad_part_is_not_merged(parts, monkeypatch, caplog):
    monkeypatch.setattr(module, "FAN_IN", 4)
    fill(parts, 3)
    tear(parts.folder / "part-000002.parquet")
    parts.append(records(3))
    parts.merge()
    assert "some parts are not merged: one is torn" in caplog.text
    assert numbers(parts) == [0, 2, 3]


def test_a_reader_looks_again_when_parts_are_merged_meanwhile(parts, monkeypatch, caplog):
    monkeypatch.setattr(module, "FAN_IN", 4)
    fill(parts, 3)
    reader = Parts(parts.folder, SCHEMA)
    look, seen = reader.parts, []

    def look_too_early():
        found = look()
        if not seen:
            parts.append(records(3))
            parts.merge()  # removes what was found
        seen.append(found)
        return found

    monkeypatch.setattr(reader, "parts", look_too_early)
    assert numbers(reader) == [0, 1, 2, 3]
    assert len(seen) == 2
    assert not caplog.records


SYSTEM = [PermissionError(13, "Permission denied"), OSError(24, "Too many open files"), MemoryError()]


@pytest.mark.parametrize("error", SYSTEM, ids=repr)
def test_what_is_the_systems_trouble_is_not_called_torn(parts, monkeypatch, tmp_path, error):
    fill(parts, 1)

    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(module.pq, "ParquetFile", refuse)
    with pytest.raises(type(error)):
        parts.set_bad_aside(tmp_path / "aside")


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_parts import SCHEMA, Parts, numbers, records
parts = Parts(Path({folder!r}), SCHEMA)
parts.append(records(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    parts.append(records(*range(10_000)))
except OSError as error:
    print(error.strerror)
print(numbers(parts), sorted(path.name for path in parts.folder.iterdir()))
"""


def test_a_part_that_cannot_be_written_leaves_nothing(tmp_path):
    code = FULL.format(root=os.getcwd(), folder=str(tmp_path / "table"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["File too large", "[1] ['part-000001.parquet']"], done.stderr
