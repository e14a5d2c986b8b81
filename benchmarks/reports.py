"""Measures the time on one core, and the memory, for the tables, the figures and the page of a run.

`make bench` runs this on synthetic runs: images with several defenses, each with the history and the
pictures of an attack of 300 steps.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from made_up import store, table  # type: ignore[import-not-found]

from leakbench.reports.csv_file import write_csv
from leakbench.reports.run import Run
from leakbench.reports.tables import terminal_tables
from leakbench.sweeps.store import Store

SIZES = {  # {trials: (images, defenses)}, with two starts each
    400: (20, 10),
    5_000: (100, 25),
}
SMALL = {24: (4, 3)}
STEPS = 300
SNAPSHOTS = range(0, STEPS + 1, 30)
MIB = 2**20


def make(folder: Path, images: int, defenses: int) -> None:
    """Write a run in which stronger noise and pruning hide more."""
    random = np.random.default_rng(0)
    half = defenses // 2
    noise = {f"gaussian(variance={10.0**-k:g})": k / half for k in range(1, half + 1)}
    prune = {f"prune(ratio={k / (half + 1):.3f})": 1 - k / half for k in range(1, defenses - half)}
    kept = {"none": 1.0, **noise, **prune}
    cells = [
        (name, index, start, float(1e-6 + random.random()), float(share * random.uniform(0.9, 1.0)))
        for (name, share), index, start in product(kept.items(), range(images), range(2))
    ]
    store(folder, table(*cells), size=32, steps=SNAPSHOTS, iterations=STEPS)


def measured(folder: Path) -> dict[str, float]:
    """The seconds on one core for each output, including its imports, and the peak memory of the process."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    moments = [time.process_time()]
    run = Run(Store.existing(folder))
    console = Console(file=io.StringIO())
    for each in terminal_tables(run.settings):
        console.print(each)
    write_csv(run.rows, folder / "trials.csv")
    moments.append(time.process_time())
    from leakbench.reports.figures import write_figures

    drawn = write_figures(run)
    moments.append(time.process_time())
    from leakbench.reports.page import write_page

    write_page(run, drawn)
    moments.append(time.process_time())
    tables, figures, page = np.diff(moments).round(2)
    peak = round(getrusage(RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "tables_s": tables,
        "figures_s": figures,
        "page_s": page,
        "all_s": round(moments[-1] - moments[0], 2),
        "peak_mib": peak,
    }


def main() -> int:
    """Print one line of JSON per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few trials, to check that it runs")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    for trials, (images, defenses) in (SMALL if options.small else SIZES).items():
        with tempfile.TemporaryDirectory() as name:
            folder = (options.keep or Path(name)) / f"run-{trials}"
            with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as one:
                if not folder.exists():
                    one.submit(make, folder, images, defenses).result()
                print(json.dumps({"trials": trials, **one.submit(measured, folder).result()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
