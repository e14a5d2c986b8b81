"""The rows as CSV."""

from pathlib import Path

import pandas as pd

from leakbench.sweeps.tables import TRIALS


def write_csv(rows: pd.DataFrame, path: Path) -> Path:
    """Write all rows as CSV, one per trial; `read_csv` reads them back unchanged."""
    rows.to_csv(path, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """The table that `write_csv` wrote, with its dtypes, to the last bit."""
    exact = {name: _exact_float for name, dtype in TRIALS.dtypes.items() if dtype == "float64"}
    others = {name: dtype for name, dtype in TRIALS.dtypes.items() if dtype != "float64"}
    return pd.read_csv(path, dtype=others, converters=exact, keep_default_na=False, na_values=[""])


def _exact_float(text: str) -> float:
    # not every version of pandas reads a float back bit for bit
    return float(text or "nan")
