"""Makes an entry of what a defense went through."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from leakbench.board.benchmark import ACCURACY, Benchmark
from leakbench.board.entry import PICTURES, Entry, write_entry
from leakbench.reports.selection import strongest, with_result
from leakbench.sweeps.manifest import package_versions
from leakbench.sweeps.records import StoredTrace
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS, TRIALS


def make_entry(
    folder: Path,
    about: Mapping[str, Any],
    benchmark: Benchmark,
    stores: Mapping[str, Store],
) -> Entry:
    """Write an entry from the runs of its parts.

    Args:
        folder: of the entry; it holds the author's own files already.
        about: `name`, `defenses`, `attacks`, `paper` and `authors`, see `About`.
        benchmark: what was run.
        stores: {part: its run}.

    Raises:
        OSError: it cannot be written.
    """
    trials = {name: store.rows() for name, store in stores.items() if name != ACCURACY}
    trainings = stores[ACCURACY].rows(TRAININGS)
    defenses = about["defenses"]
    pictures = [each for name, rows in trials.items() for each in _pictures(rows, stores[name], defenses)]
    both = pd.concat([rows.assign(part=name) for name, rows in trials.items()], ignore_index=True)
    tables = {
        "trials": pa.Table.from_pandas(
            both, TRIALS.schema.append(pa.field("part", pa.string())), preserve_index=False
        ),
        "trainings": pa.Table.from_pandas(trainings, TRAININGS.schema, preserve_index=False),
        "pictures": pa.Table.from_pylist(pictures, PICTURES),
    }
    said = {
        **about,
        "protocol": benchmark.name,
        "protocol_sha256": benchmark.digest,
        "made": datetime.now(UTC).date().isoformat(),
        "versions": package_versions(),
        "hardware": sorted(both["hardware"].dropna().unique()),
    }
    return write_entry(folder, said, tables)


def _pictures(rows: pd.DataFrame, store: Store, defenses: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the strongest attack found under each of these defenses."""
    if with_result(rows).empty:
        return
    best = strongest(rows, store.scale)
    traces = store.traces(best.loc[best["defense"].isin(defenses), "key"].tolist())
    for key, trace in traces.items():
        yield {"key": key, **_found(trace)}


def _found(trace: StoredTrace) -> dict[str, Any]:
    found: Sequence[Any] = trace.reconstruction
    if isinstance(found, np.ndarray):
        pixels = (found * 255).round().astype(np.uint8)
        return {"shape": list(found.shape), "pixels": pixels.tobytes(), "texts": None}
    return {"shape": [len(found)], "pixels": b"", "texts": list(found)}
