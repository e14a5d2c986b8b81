"""Measures the cost of a sweep without its attacks: running a trial, and reading a million rows.

`make bench` runs this. The trials come from a sweep file, but are not attacked: each worker returns a
row and a trace of the usual size immediately.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pandas as pd
import torch
from measured import here
from rich.console import Console

from leakbench.bench.execution import Watcher
from leakbench.bench.hardware import hardware_of
from leakbench.bench.row import MEASURED, Result, make_row
from leakbench.bench.trace import Trace
from leakbench.bench.trial import Trial
from leakbench.sweeps.executors.memory import resident_memory
from leakbench.sweeps.executors.processes import Joblib
from leakbench.sweeps.plan import plan
from leakbench.sweeps.progress import Lines
from leakbench.sweeps.records import Record, to_record
from leakbench.sweeps.runner import ROUNDS, run
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TRIALS

SWEEP = """
datasets: [{name: mnist-5k, indices: 0-%d}]
defenses: [none, gaussian(variance=0.01)]
attacks: [dlg(steps=300)]
"""
MIB = 2**20
ROWS_A_PART = 10_000


def answer(trials: Iterator[Trial], device: str, watcher: Watcher) -> Iterator[Record]:
    """In a worker: yield the record of each trial, without attacking it."""
    for trial in trials:
        watcher.preparing(trial)
        watcher.preparing(None)
        watcher.moved(trial.steps)
        yield to_record(result(trial, device, torch.rand(1, 28, 28)))


def result(trial: Trial, device: str, picture: torch.Tensor) -> Result:
    """The result of a trial after 300 steps, with the usual snapshots."""
    measured: dict[str, Any] = dict.fromkeys(MEASURED, 0.1)
    measured |= {"iterations": 300, "finite": True, "label_correct": True}
    measured |= dict.fromkeys(("sent_bytes", "label_true", "label_recovered", "classes"), 10)
    measured |= {"modality": "images", "threat": "nothing", "hardware": hardware_of(device), "seconds": 4.2}
    row = make_row(trial, device, status="budget", reason="stopped at the limit of 300 steps", **measured)
    snapshots = {step: torch.rand_like(picture) for step in range(0, 301, 30)}
    distances = {step: {f"{layer}.weight": 0.1 for layer in range(8)} for step in snapshots}
    trace = Trace(
        picture,
        errors=[0.1] * 301,
        snapshots=snapshots,
        distances=distances,
        objective=[0.2] * 301,
        reconstruction=picture,
    )
    return Result(row, trace)


def through_the_runner(count: int, workers: int) -> dict[str, float]:
    """Time and memory for `count` trials, from the plan to the last part on disk, with idle workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "short.yaml"
        file.write_text(SWEEP % (count // 2 - 1))
        sweep, problems = read_sweep(file)
        assert not problems, problems
        store = Store.open_for(folder / "run", sweep)
        executor = Joblib(["cpu"] * workers)
        with store.lock(), closing(executor), (folder / "log").open("w") as log:
            began = time.perf_counter()
            todo = plan(sweep, store.statuses())
            progress = Watched(Console(file=log), todo)
            with progress:
                run(todo, answer, ROUNDS * 64, store, executor, progress)
            seconds = time.perf_counter() - began
        assert len(store.rows()) == count
        size = sum(path.stat().st_size for path in store.folder.rglob("*.parquet") if path.is_file())
    tenth = progress.memory[len(progress.memory) // 10]
    return {
        "trials": count,
        "milliseconds_a_trial": 1e3 * seconds / count,
        "growth_mib": (max(progress.memory) - tenth) / MIB,
        "bytes_a_trial": size / count,
    }


class Watched(Lines):
    """Records the memory of this process whenever a trial ends."""

    def __init__(self, console: Console, todo: Any):
        super().__init__(console, todo)
        self.memory: list[int] = []

    def ended(self, row: dict[str, Any]) -> None:
        """See `Progress.ended`."""
        super().ended(row)
        self.memory.append(resident_memory())


def many_rows(count: int) -> dict[str, float]:
    """Seconds and memory for reading `count` rows into pandas, in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "short.yaml").write_text(SWEEP % 4)
        sweep, _ = read_sweep(folder / "short.yaml")
        store = Store.open_for(folder / "run", sweep)
        trial = next(iter(plan(sweep, {})))
        row = to_record(result(trial, "cpu", torch.rand(1, 28, 28))).row
        for first in range(0, count, ROWS_A_PART):
            numbers = range(first, first + ROWS_A_PART)
            store.append([Record(TRIALS.name, {**row, "key": f"{n:032x}", "index": n}) for n in numbers])
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(read, store.folder).result()


def read(folder: Path) -> dict[str, float]:
    """In a separate process: read all rows, and the keys that the plan of a resumed sweep needs."""
    before = getrusage(RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    rows = Store(folder).rows()
    seconds = time.perf_counter() - began
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    statuses = Store(folder).statuses()
    assert len(statuses) == len(rows)
    return {
        "rows": len(rows),
        "seconds": seconds,
        "peak_mib": (peak - before) / 1024,
        "table_mib": float(rows.memory_usage(deep=True).sum()) / MIB,
        "seconds_for_the_keys": time.perf_counter() - began,
    }


def main() -> int:
    """Measure, print, and write RUN/sweep.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="few trials, to check that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    if arguments.small:
        arguments.trials, arguments.rows = 20, 20_000
    place = here()
    found: dict[str, Any] = {
        **place,
        "versions": {**place["versions"], "pandas": pd.__version__},
        "runner": through_the_runner(arguments.trials, arguments.workers),
        "table": many_rows(arguments.rows),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "sweep.json").write_text(json.dumps(found, indent=2) + "\n")
    runner, table = found["runner"], found["table"]
    kib = runner["bytes_a_trial"] / 1024
    print(
        f"{runner['trials']} trials without an attack: {runner['milliseconds_a_trial']:.2f} ms per trial, the"
        f" runner grew by {runner['growth_mib']:.0f} MiB; {kib:.0f} KiB per trial on disk"
    )
    print(
        f"{table['rows']} rows: read in {table['seconds']:.1f} s, at most {table['peak_mib']:.0f} MiB,"
        f" {table['table_mib']:.0f} MiB as a table; the keys alone in {table['seconds_for_the_keys']:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
