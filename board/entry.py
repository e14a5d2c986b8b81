"""An entry of the leaderboard: what a defense went through, in a folder that can be checked.

ENTRY/entry.yaml          what it is, with what it was made, and the SHA-256 of each other file
ENTRY/trials.parquet      the rows of all parts, with a column `part`
ENTRY/trainings.parquet   the rows of its trainings
ENTRY/pictures.parquet    what the strongest attack found, for each row that decides
ENTRY/*.py                files of the author's own: the defense, or attacks on it
ENTRY/found.npz           what was rebuilt elsewhere and handed in, if anything was
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from leakbench.core.errors import UserError
from leakbench.core.user_files import file_digest
from leakbench.sweeps.tables import TRAININGS, TRIALS
from leakbench.sweeps.yaml_file import UnreadableFileError, read_yaml

FORMAT = 1
ABOUT = "entry.yaml"
PICTURES = pa.schema(
    [
        ("key", pa.string()),  # of the row
        ("shape", pa.list_(pa.int32())),  # (N, C, H, W); of texts (N,)
        ("pixels", pa.binary()),  # bytes, 255 for 1; empty of texts
        ("texts", pa.list_(pa.string())),  # pieces with spaces between them; null of images
    ]
)


def pixels_of(picture: Mapping[str, Any]) -> np.ndarray:
    """The images of a line of PICTURES, (N, C, H, W), float32 in [0, 1]."""
    pixels = np.frombuffer(picture["pixels"], dtype=np.uint8).reshape(picture["shape"])
    return pixels.astype(np.float32) / 255


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, each as {column: value}."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


@dataclass(frozen=True)
class About:
    """What `entry.yaml` says."""

    name: str
    defenses: list[str]  # each setting is a line of the leaderboard
    attacks: list[str]  # besides those of the protocol
    paper: str  # where the defense is described; may be empty
    authors: str  # of the entry
    protocol: str  # such as v1
    protocol_sha256: str
    made: str  # the day
    versions: dict[str, str]
    hardware: list[str]
    keys_sha256: str  # of the keys of all rows
    files: dict[str, str]  # {file: SHA-256}
    format: int = FORMAT


@dataclass(frozen=True)
class Entry:
    """An entry in its folder."""

    folder: Path
    about: About

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The rows of all parts, dtypes as `Table.dtypes`; `part` names the part."""
        return _read(self.folder / "trials.parquet", {**TRIALS.dtypes, "part": "str"})

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """The rows of its trainings."""
        return _read(self.folder / "trainings.parquet", TRAININGS.dtypes)

    @cached_property
    def pictures(self) -> dict[str, dict[str, Any]]:
        """{key of a row: what was found}, as PICTURES has it."""
        return {each["key"]: each for each in _table(self.folder / "pictures.parquet").to_pylist()}

    @classmethod
    def read(cls, folder: Path) -> "Entry":
        """The entry in a folder; only `entry.yaml` is read at once.

        Raises:
            UserError: no entry there, or one that says too little about itself.
        """
        path = folder / ABOUT
        if not path.is_file():
            text = f"{folder}: expected an entry, found no {ABOUT} in it"
            raise UserError(f"{text}; `leakbench submit DEFENSE` makes one")
        try:
            content = read_yaml(path)
        except UnreadableFileError as error:
            raise UserError(f"{path}: {error}") from error
        return cls(folder, _about(path, content))


def _about(path: Path, content: Any) -> About:
    kinds: dict[str, type] = {name: get_origin(kind) or kind for name, kind in get_type_hints(About).items()}
    if not isinstance(content, Mapping) or set(content) != set(kinds):
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(f"{path}: expected the keys {', '.join(kinds)}, got {found}")
    for name, value in content.items():
        if not isinstance(value, kinds[name]):
            raise UserError(f"{path}: {name}: expected a {kinds[name].__name__}, got {value!r}")
    if content["format"] != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, got {content['format']}")
    return About(**content)


def write_entry(folder: Path, about: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Entry:
    """Write an entry; files of the author's own are there already.

    Args:
        folder: of the entry.
        about: what `About` has, without what follows from the files.
        tables: `trials`, `trainings` and `pictures`.

    Raises:
        OSError: it cannot be written.
    """
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    own = sorted(path.name for path in folder.iterdir() if path.suffix in (".parquet", ".py", ".npz"))
    keys = [key for name in ("trials", "trainings") for key in tables[name]["key"].to_pylist()]
    files = {name: file_digest(folder / name) for name in own}
    said = About(**about, keys_sha256=digest_of(keys), files=files)
    text = yaml.safe_dump(asdict(said), sort_keys=False, allow_unicode=True, width=100)
    (folder / ABOUT).write_text(text, encoding="utf-8")
    return Entry(folder, said)


def digest_of(keys: Sequence[str]) -> str:
    """SHA-256 of keys, whatever their order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a parquet file"
        raise UserError(f"{path}: cannot be read: {reason}") from error


def _read(path: Path, dtypes: Mapping[str, str]) -> pd.DataFrame:
    table = _table(path)
    missing = [name for name in dtypes if name not in table.schema.names]
    if missing:
        raise UserError(f"{path}: expected the columns of a run's rows, found no {missing[0]}")
    rows: pd.DataFrame = table.to_pandas(integer_object_nulls=True)
    # texts as objects share a block: rows of many tables of 60 columns are chosen in two thirds of the time
    return rows.astype({name: object if dtype == "str" else dtype for name, dtype in dtypes.items()})
