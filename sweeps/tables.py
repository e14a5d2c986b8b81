"""The tables of a run: what their rows are on disk and in pandas."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import pyarrow as pa

from leakbench.bench.row import Row
from leakbench.bench.training_row import TrainingRow
from leakbench.bench.trial import SCHEMA_VERSION
from leakbench.core.configured import setting_types

FORMAT = 13  # of a run's folder
_VERSION = {"leakbench": f"format {FORMAT}, schema {SCHEMA_VERSION}"}  # in every file

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_PANDAS = {str: "str", int: "Int64", float: "float64", bool: "boolean"}


@dataclass(frozen=True)
class Table:
    """Rows of one kind: RUN/NAME.parquet."""

    name: str
    schema: pa.Schema
    identity: tuple[str, ...] = ("key",)  # columns that tell its rows apart
    once: bool = False  # a row that is there already is not written again

    @property
    def dtypes(self) -> dict[str, str]:
        """{column: its dtype in pandas}, of a table of plain values."""
        kinds = {arrow: _PANDAS[kind] for kind, arrow in _ARROW.items()}
        return {field.name: kinds[field.type] for field in self.schema}


def plain_table(name: str, row: type, once: bool = False) -> Table:
    """The table of such rows, a dataclass of texts and numbers."""
    kinds = {name: kind if kind in _ARROW else get_args(kind)[0] for name, kind in setting_types(row).items()}
    return Table(name, _schema((name, _ARROW[kind]) for name, kind in kinds.items()), once=once)


def _schema(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(list(columns), metadata=_VERSION)


ORIGINALS = Table(
    "originals",
    _schema(
        [
            ("dataset", pa.string()),
            ("index", pa.int64()),
            ("shape", pa.list_(pa.int32())),
            ("image", pa.binary()),  # float16; empty of a text
            ("text", pa.string()),  # pieces with spaces between them; null of an image
        ]
    ),
    identity=("dataset", "index"),
    once=True,
)
TRACES = Table(
    "traces",
    _schema(
        [
            ("key", pa.string()),
            ("objective", pa.list_(pa.float32())),
            ("errors", pa.list_(pa.float32())),  # see `Modality.errors`; empty where the truth is unknown
            ("shape", pa.list_(pa.int32())),
            ("reconstruction", pa.binary()),  # float16, clipped to [0, 1]; empty of texts
            ("texts", pa.list_(pa.string())),  # null of images
            ("labels", pa.list_(pa.int32())),  # of the reconstruction; empty where none were looked for
            ("snapshot_steps", pa.list_(pa.int32())),
            ("snapshots", pa.binary()),  # likewise, one picture after the other
            ("snapshot_texts", pa.list_(pa.list_(pa.string()))),
            ("layers", pa.list_(pa.string())),  # parameters whose gradients' distances follow
            ("distance_steps", pa.list_(pa.int32())),
            ("distances", pa.list_(pa.float32())),  # of all layers at one step, then at the next
            ("input_layers", pa.list_(pa.string())),
            ("input_errors", pa.list_(pa.float32())),
        ]
    ),
)
TRIALS = plain_table("trials", Row)
TRAININGS = plain_table("trainings", TrainingRow, once=True)  # weights may come again without their row
TABLES = (ORIGINALS, TRACES, TRIALS, TRAININGS)  # what a row refers to is written before it
CURVE_COLUMNS = [
    name
    for name in TRACES.schema.names
    if name
    not in ("shape", "reconstruction", "texts", "labels", "snapshot_steps", "snapshots", "snapshot_texts")
]
