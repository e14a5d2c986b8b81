"""Tables: CSV of all rows, and the summary for a terminal."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import Box
from rich.table import Table

from reports.summary import LEAK_SSIM, SETTING, summarize
from sweeps.records import ROW_DTYPES

# a line under the heads and nothing else: defenses have long names, and terminals 80 columns
HEADS = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def write_csv(rows: pd.DataFrame, path: Path) -> Path:
    """All rows as CSV, one a trial; `read_csv` gives them back equal."""
    rows.to_csv(path, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """The table that `write_csv` wrote, with its dtypes, to the last bit."""
    exact = {name: _exact_float for name, dtype in ROW_DTYPES.items() if dtype == "float64"}
    others = {name: dtype for name, dtype in ROW_DTYPES.items() if dtype != "float64"}
    return pd.read_csv(path, dtype=others, converters=exact, keep_default_na=False, na_values=[""])


def _exact_float(text: str) -> float:
    # not every version of pandas reads a float back to the bit that it wrote
    return float(text or "nan")


def terminal_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table for each data set, model and attack."""
    for setting, lines in summarize(rows).groupby(SETTING, sort=False):
        yield _terminal_table(" · ".join(map(str, setting)), lines)


def _terminal_table(title: str, lines: pd.DataFrame) -> Table:
    table = Table(title=title, title_justify="left", box=HEADS, padding=(0, 1, 0, 0))
    table.caption, table.caption_justify = _caption(lines), "left"
    table.add_column("defense", overflow="fold")
    for name in ("trials", "leaked", "95 % CI", "SSIM", "PSNR dB", "MSE"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines.to_dict("records"):
        table.add_row(line["defense"], *_cells(line))
    return table


def _cells(line: dict[Hashable, Any]) -> list[str]:
    trials = f"{line['trials']}" + (f" ({line['failed']} failed)" if line["failed"] else "")
    if not line["images"]:
        return [trials, "0/0", "-", "-", "-", "-"]
    return [
        trials,
        f"{line['leaked']}/{line['images']}",
        f"{100 * line['low']:.0f}-{100 * line['high']:.0f} %",
        f"{line['ssim']:.3f}",
        f"{line['psnr']:.1f}",
        f"{line['mse']:.1e}",
    ]


def _caption(lines: pd.DataFrame) -> str:
    caption = (
        f"leaked: images rebuilt with SSIM >= {LEAK_SSIM}, of those that leak without a defense;"
        " the start of lowest match loss counts; SSIM, PSNR, MSE: medians"
    )
    excluded = int(lines["excluded"].max())
    if excluded:
        images = "image" if excluded == 1 else "images"
        caption += f"\n{excluded} {images} left out: not rebuilt even without a defense"
    return caption
