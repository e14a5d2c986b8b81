"""Kills a sweep's runner and workers at random moments, and compares what is stored in the end.

`make torture N=200` does as many as asked.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pandas as pd
from running import children, command, start

from leakbench.sweeps.store import Store

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-9}]
models: ['mlp(hidden=[32])']
defenses: [none, gaussian(variance=0.01), float16]
attacks: [dlg(steps=4)]
restarts: 4
"""
ARGUMENTS = ("sweep", "torture.yaml", "--no-figures", "--jobs", "2", "--slots", "8", "--out")
SECONDS_BETWEEN_KILLS = (0.0, 4.0)


def torture(kills: int, folder: Path, seed: int) -> tuple[Counter[str], int]:
    """Kill as many times, over as many sweeps as it takes; compare each with one that nobody disturbs.

    Returns:
        How many runners and how many workers were killed, and how many rows were compared.

    Raises:
        AssertionError: a row is missing, there twice, or another.
    """
    (folder / "torture.yaml").write_text(SWEEP)
    draw = random.Random(seed)
    print(f"seed {seed}", flush=True)
    done = command(*ARGUMENTS, "undisturbed", cwd=folder)
    assert done.returncode == 0, done.stderr
    expected = contents(folder / "undisturbed")
    killed: Counter[str] = Counter()
    rows = sweeps = 0
    while killed.total() < kills:
        sweeps += 1
        out = f"disturbed-{sweeps}"
        killed += disturb(kills - killed.total(), folder, out, draw)
        found = contents(folder / out)
        for name, table in expected.items():
            pd.testing.assert_frame_equal(found[name], table, check_exact=True)
        rows += len(found["trials"])
        print(f"sweep {sweeps}: {dict(killed)}, {rows} rows equal", flush=True)
    return killed, rows


def disturb(kills: int, folder: Path, out: str, draw: random.Random) -> Counter[str]:
    """One sweep, started again whenever its runner dies, until it ends by itself."""
    killed: Counter[str] = Counter()
    while True:
        with (folder / "log").open("a") as log:
            running = start(*ARGUMENTS, out, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            try:
                while killed.total() < kills:
                    time.sleep(draw.uniform(*SECONDS_BETWEEN_KILLS))
                    if running.poll() is not None:
                        break
                    killed[strike(running, draw)] += 1
                status = running.wait(300)
            finally:
                running.kill()
                running.wait()
        if status == 0:
            return killed
        assert status == -signal.SIGKILL, (folder / "log").read_text()


def strike(running: "subprocess.Popen[str]", draw: random.Random) -> str:
    """Kill the runner, or one of its workers where there are some; says which."""
    workers = children(running.pid)
    victim = draw.choice(["worker", "runner"]) if workers else "runner"
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(running.pid if victim == "runner" else draw.choice(workers), signal.SIGKILL)
    return victim


def contents(folder: Path) -> dict[str, pd.DataFrame]:
    """Rows and traces of a run, in an order of their own, without the time that they took."""
    store = Store(folder)
    trials = pd.read_parquet(folder / "trials.parquet").drop(columns=["seconds", "defense_seconds"])
    traces = pd.DataFrame(
        {
            "key": key,
            "objective": trace.objective.tobytes(),
            "errors": trace.errors.tobytes(),
            "reconstruction": trace.reconstruction.tobytes(),
            "snapshots": str({step: image.tobytes() for step, image in trace.snapshots.items()}),
        }
        for key, trace in store.traces(list(trials["key"])).items()
    )
    return {
        name: table.sort_values("key", ignore_index=True)
        for name, table in (("trials", trials), ("traces", traces))
    }


def main(arguments: list[str] | None = None) -> int:
    """Run it from the command line; the last line says what was survived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        killed, rows = torture(options.kills, Path(folder), options.seed)
    who = f"{killed['runner']} of runners and {killed['worker']} of workers"
    print(f"{killed.total()} kills survived ({who}), {rows} rows compared: equal key for key and bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
