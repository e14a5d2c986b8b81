"""`leakbench rows`: some rows and columns of a run, for reading or for another program."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from leakbench.bench.modalities import Modality
from leakbench.core.errors import UserError
from leakbench.core.registry import unknown_text
from leakbench.reports.markdown import markdown
from leakbench.reports.terminal import plain_table

WIDEST = 100_000  # characters
NAMES = ["dataset", "index", "model", "model_seed", "protocol", "attack", "start"]


def known_columns(rows: pd.DataFrame, text: str, option: str) -> list[str]:
    """The columns that `a,b` names.

    Raises:
        UserError: a column is unknown; the message lists the known ones.
    """
    names = [each.strip() for each in text.split(",")]
    unknown = [unknown_text("column", each, rows.columns) for each in names if each not in rows.columns]
    if unknown:
        raise UserError(*(f"{option}: {problem}" for problem in unknown))
    return names


def telling(rows: pd.DataFrame, modality: Modality) -> list[str]:
    """The columns in which these rows differ, and their scores: these fit into a terminal."""
    unknown = rows[modality.leading].isna().any()
    loss = ["match_loss"] if unknown else []  # tells something where there is no score
    names = (name for name in NAMES if rows[name].nunique() > 1)
    return ["defense", *names, "status", *modality.medians, *loss]


def print_table(rows: pd.DataFrame, console: Console) -> None:
    """Print the full width: nothing is cut off in a file or a narrow terminal."""
    first, *others = map(str, rows.columns)
    table = plain_table(None, others, first)
    for line in _lines(rows):
        table.add_row(*line)
    console.width = WIDEST
    console.print(table)


def as_json(rows: pd.DataFrame) -> Iterator[str]:
    """A list of objects, one per line; null for missing and infinite values."""
    records = [json.dumps(_plain(each), ensure_ascii=False) for each in rows.to_dict("records")]
    yield "[" + ",\n ".join(records) + "]\n"


def as_markdown(rows: pd.DataFrame) -> Iterator[str]:
    """A table, line by line."""
    lines = ([cell.replace("|", r"\|") for cell in line] for line in _lines(rows))
    yield from (f"{line}\n" for line in markdown(list(map(str, rows.columns)), lines))


def as_csv(rows: pd.DataFrame) -> Iterator[str]:
    """As `write_csv` writes it."""
    yield rows.to_csv(index=False)


def as_tsv(rows: pd.DataFrame) -> Iterator[str]:
    """The same with tabs."""
    yield rows.to_csv(index=False, sep="\t")


FORMATS: dict[str, Callable[[pd.DataFrame], Iterator[str]]] = {
    "csv": as_csv,
    "tsv": as_tsv,
    "json": as_json,
    "md": as_markdown,
}


def _lines(rows: pd.DataFrame) -> Iterator[Sequence[str]]:
    for values in rows.itertuples(index=False):
        yield [_cell(value) for value in values]


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(record: dict[Any, Any]) -> dict[Any, Any]:
    def plain(value: Any) -> Any:
        return None if pd.isna(value) or (isinstance(value, float) and math.isinf(value)) else value

    return {name: plain(value) for name, value in record.items()}
