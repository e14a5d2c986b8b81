"""A cluster of dask on this machine: a real scheduler, real workers, some of them killed."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pandas as pd
import pytest
from running import ENVIRONMENT, ROOT, command, inside, start, stored, wait_for

import leakbench
from leakbench import commands

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
defenses: [none, gaussian(variance=0.01), prune(ratio=0.5)]
attacks: [dlg(steps=4)]
"""
LONG = f"{SWEEP.replace('steps=4', 'steps=20')}restarts: 4\n"
BAD = """
import os
from dataclasses import dataclass
from leakbench import Defense
@dataclass(frozen=True)
class Bad(Defense):
    def apply(self, gradients, generator): os._exit(3)
"""


SUITE = f"""
datasets: [{{name: mnist-sample, indices: 0-1}}]
models: ['mlp(hidden=[16])']
defenses: [none, gaussian(variance=1.0)]
attacks: ['{ROOT}/examples/first_layer.py:FirstLayer', dlg(steps=2)]
exhaustive: false
"""


@contextmanager
def cluster(folder, workers, python=sys.executable, environment=ENVIRONMENT):
    """(address of a scheduler, its process); its workers are each kept alive by a nanny."""
    file = folder / "scheduler.json"
    environment = {**environment, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}

    def run(what, *arguments):
        program = [python, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file)]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(
            [*program, "--no-dashboard", *arguments], cwd=folder, env=environment, **silent
        )

    processes = [run("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        wait_for(lambda: file.exists() and file.read_text().rstrip().endswith("}"))
        processes.append(run("worker", "--nworkers", str(workers), "--nthreads", "1"))
        yield json.loads(file.read_text())["address"], processes[0]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """The address of a scheduler with two workers."""
    with cluster(tmp_path_factory.mktemp("dask"), workers=2) as (address, _):
        yield address


def local(folder):
    """The rows of the same sweep in this process."""
    assert inside(folder, "sweep", "mine.yaml", "--out", "local", "--executor", "inline", "--slots", "8") == 0
    return stored(folder / "local")


@pytest.mark.long
def test_rows_are_those_of_a_local_run(dask, write, tmp_path):
    write("mine.yaml", SWEEP)
    cluster = ("--executor", "dask", "--scheduler", dask)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--slots", "8", *cluster) == 0
    pd.testing.assert_frame_equal(stored(tmp_path / "out"), local(tmp_path), check_exact=True)


TRAINING = """
defenses: [gaussian(variance=0.1), int8]
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  epochs: 1
  checkpoints: 1
"""


@pytest.mark.long
def test_trainings_are_those_of_a_local_run(dask, write, tmp_path):
    write("mine.yaml", TRAINING)
    for out, options in (("out", ("--executor", "dask", "--scheduler", dask)), ("local", ())):
        assert inside(tmp_path, "utility", "mine.yaml", "--out", out, *options) == 0
    found, here = (
        pd.read_parquet(tmp_path / out / "trainings.parquet").drop(columns="seconds").sort_values("key")
        for out in ("out", "local")
    )
    pd.testing.assert_frame_equal(found.reset_index(drop=True), here.reset_index(drop=True))
    weights = [
        sorted(path.name for path in (tmp_path / out / "checkpoints").glob("*.pt"))
        for out in ("out", "local")
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 3


@pytest.mark.long
def test_a_suite_whose_attacks_run_one_after_the_other(dask, write, tmp_path):
    write("mine.yaml", SUITE)
    cluster = ("--executor", "dask", "--scheduler", dask)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--slots", "8", *cluster) == 0
    found = stored(tmp_path / "out")
    assert found["attack"].value_counts().to_list() == [4, 2]
    pd.testing.assert_frame_equal(found, local(tmp_path), check_exact=True)


@pytest.mark.long
def test_rows_are_those_of_a_local_run_though_a_worker_is_killed(dask, write, tmp_path):
    write("mine.yaml", LONG)
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    arguments = ("--executor", "dask", "--scheduler", dask, "--slots", "8", "--out", "out")
    running = start("sweep", "mine.yaml", *arguments, **options)
    parts = tmp_path / "out" / "trials.parquet"
    wait_for(lambda: (tmp_path / "out" / "sweep.json").exists() or running.poll() is not None)
    client = distributed.Client(dask, set_as_default=False)
    try:
        wait_for(lambda: any(client.processing().values()))
        workers = list(client.run(os.getpid).values())
        os.kill(workers[0], signal.SIGKILL)
    finally:
        client.close()
    output, error = running.communicate(timeout=120)
    assert running.returncode == 0, error
    assert "cpu: 2 workers x 1 thread" in output
    assert "Traceback" not in output + error
    pd.testing.assert_frame_equal(stored(tmp_path / "out"), local(tmp_path), check_exact=True)
    assert parts.exists()


@pytest.mark.long
def test_a_trial_that_ends_workers_is_an_error_and_the_others_are_not(dask, write, tmp_path):
    bad = write("bad.py", BAD)
    text = f"datasets: [mnist-sample]\ndefenses: [none, float16, '{bad}:Bad']\nattacks: [dlg(steps=1)]\n"
    write("mine.yaml", text)
    done = command("sweep", "mine.yaml", "--executor", "dask", "--scheduler", dask, cwd=tmp_path)
    assert done.returncode == commands.TRIALS_FAILED, done.stderr
    assert "1 trial failed: workers died again and again while running it" in done.stdout
    rows = stored(tmp_path / "runs" / "mine")
    assert (rows["status"] == "error").sum() == 1
    assert len(rows) == 3


@pytest.mark.long
def test_a_scheduler_that_goes_away_ends_the_sweep_with_a_sentence(write, tmp_path):
    write("mine.yaml", SWEEP.replace("steps=4", "steps=3000"))
    with cluster(tmp_path, workers=1) as (address, scheduler):
        arguments = ("--executor", "dask", "--scheduler", address, "--out", "out")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running = start("sweep", "mine.yaml", *arguments, cwd=tmp_path, **pipes)
        manifest = tmp_path / "out" / "sweep.json"
        wait_for(lambda: manifest.exists() and '"began"' in manifest.read_text())
        scheduler.kill()
        output, error = running.communicate(timeout=120)
    assert running.returncode == commands.STOPPED, output + error
    assert f"the scheduler at {address} is gone; what is finished is stored: the same command" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--executor", "dask"], "--executor dask and --scheduler ADDRESS: expected both or none"),
        (["--scheduler", "tcp://127.0.0.1:9"], "--executor dask and --scheduler ADDRESS: expected both or"),
        (
            ["--executor", "dask", "--scheduler", "tcp://127.0.0.1:9"],
            "--scheduler tcp://127.0.0.1:9: expected a dask scheduler that answers, found none",
        ),
        (
            ["--executor", "dask", "--scheduler", "nonsense"],
            "--scheduler nonsense: expected a dask scheduler",
        ),
    ],
)
def test_bad_input_is_a_line(write, tmp_path, monkeypatch, capsys, arguments, problem):
    monkeypatch.setattr("leakbench.sweeps.executors.cluster.SECONDS_TO_CONNECT", 2)
    path = write("mine.yaml", SWEEP)
    assert leakbench.main(["sweep", str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_devices_and_timeouts_that_a_cluster_does_not_know(dask, write, tmp_path, capsys):
    options = ["--executor", "dask", "--scheduler", dask]
    path = write("mine.yaml", SWEEP)
    assert leakbench.main(["sweep", str(path), *options, "--device", "cuda"]) == 2
    assert "--device cuda: expected a GPU at every worker, found none at tcp://" in capsys.readouterr().err
    assert leakbench.main(["sweep", str(path), *options, "--device", "cuda:1"]) == 2
    assert "expected auto, cpu or cuda with --executor dask, got 'cuda:1'" in capsys.readouterr().err
    late = write("late.yaml", SWEEP + "trial_timeout: 60\n")
    assert leakbench.main(["sweep", str(late), *options]) == 2
    assert "timeout: expected 0 with --executor dask" in capsys.readouterr().err


def test_without_dask_the_extra_is_named(monkeypatch, write, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    path = write("mine.yaml", SWEEP)
    assert leakbench.main(["sweep", str(path), "--executor", "dask", "--scheduler", "tcp://x:1"]) == 2
    assert "dask.distributed is not installed; `pip install -e '.[cluster]'`" in capsys.readouterr().err
