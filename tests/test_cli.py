"""The command line, as a user meets it: real processes, real exit codes."""

import os
import re
import signal
import subprocess
import sys
from importlib import metadata

import pandas as pd
import pytest
import torch
from running import ROOT, command, inside, start, stored, wait_for

import leakbench
from leakbench import commands
from leakbench.core.interrupts import InterruptedRunError
from leakbench.sweeps.store import Store

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
models: ['mlp(hidden=[32])']
defenses: [none, gaussian(variance=0.01), prune(ratio=0.5)]
attacks: [dlg(steps=3)]
restarts: 2
"""
ONE = """
datasets: [mnist-sample]
models: ['mlp(hidden=[32])']
defenses: [{}]
attacks: [dlg(steps=1)]
"""  # without its defenses
REFERENCE = ROOT / "docs" / "COMMANDS.md"
LONGER = """
datasets: [{name: cifar10-sample, indices: 0-1}]
defenses: [none, gaussian(variance=0.01), prune(ratio=0.5)]
attacks: [dlg(steps=10)]
restarts: 2
"""
TURNED = """
datasets: [{name: cifar10-sample, indices: [1, 0]}]
defenses: [prune(ratio=0.5), none, gaussian(variance=0.01)]
attacks: [dlg(steps=10)]
restarts: 2
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep that two workers ran, and what it printed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "mine.yaml").write_text(SWEEP)
    done = command("sweep", "mine.yaml", "--out", "out", "--jobs", "2", cwd=folder, figures=True)
    return folder, done


def test_a_sweep_ends_with_a_table_and_its_paths(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mine.yaml: 12 trials = 2 images x 3 defenses x 2 starts" in done.stdout
    assert "2 workers x 1 thread" in done.stdout
    assert "12/12 trials" in done.stdout
    for name in ("defense", "trials", "leaked", "1 start", "SSIM", "verdict", "gaussian(variance=0.01)"):
        assert name in done.stdout
    for path in ("out/trials.parquet", "out/trials.csv", "out/figures/scores.png", "out/report.html"):
        assert path in done.stdout
        assert (folder / path).exists()
    assert len(pd.read_csv(folder / "out" / "trials.csv")) == 12


def test_rows_are_the_same_in_this_process(finished, tmp_path):
    folder, _ = finished
    arguments = ("sweep", "mine.yaml", "--out", tmp_path / "inline", "--executor", "inline")
    assert inside(folder, *arguments) == 0
    parallel, inline = (
        pd.read_csv(path / "trials.csv").drop(columns=["seconds", "defense_seconds"])
        for path in (folder / "out", tmp_path / "inline")
    )
    pd.testing.assert_frame_equal(parallel, inline, check_exact=True)


def test_the_same_command_again_runs_nothing(finished, monkeypatch, capsys):
    folder, first = finished
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    assert leakbench.main(["sweep", "mine.yaml", "--out", "out"]) == 0
    again = capsys.readouterr().out
    assert "12 trials are there already, 0 to run" in again
    assert first.stdout.split("mnist-sample")[1] == again.split("mnist-sample")[1]


def test_figures_and_csv_can_be_made_again(finished, capsys):
    folder, _ = finished
    csv = folder / "out" / "trials.csv"
    before = csv.read_bytes()
    csv.unlink()
    (folder / "out" / "figures" / "strip.png").unlink()
    assert inside(folder, "csv", "out") == 0
    assert capsys.readouterr().out.strip() == "out/trials.csv"
    assert csv.read_bytes() == before
    assert inside(folder, "figures", "out") == 0
    assert "out/figures/strip.png" in capsys.readouterr().out
    assert (folder / "out" / "figures" / "strip.png").exists()


def test_a_dry_run_lists_and_writes_nothing(write, tmp_path, capsys):
    write("mine.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "mine.yaml", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "12 trials would run; nothing was written" in output
    assert output.count("gaussian(variance=0.01)") == 4
    assert re.search(r"\ntime     [\d.]+ s at most: \d+ workers?, every trial with all its steps", output)
    assert re.search(r"\nmemory   0\.\d\d GiB for the batches, besides what each worker loads\n", output)
    assert re.search(r"\ndisk     \d+ MiB at most\n", output)
    assert os.listdir(tmp_path) == ["mine.yaml"]


def test_the_default_folder_is_named_after_the_file(write, tmp_path):
    write(
        "tiny.yaml",
        "datasets: [mnist-sample]\nmodels: ['mlp(hidden=[32])']\ndefenses: [none]\nattacks: [dlg(steps=1)]\n",
    )
    assert inside(tmp_path, "sweep", "tiny.yaml", "--executor", "inline") == 0
    assert (tmp_path / "runs" / "tiny" / "trials.csv").exists()


BAD = [
    (["sweep", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["sweep", "bad.yaml"], "bad.yaml: defenses[0].variance: expected a number >= 0, got -1"),
    (["sweep", "good.yaml", "--device", "tpu"], "--device: expected auto or some of cpu"),
    (["sweep", "good.yaml", "--jobs", "0"], "expected a whole number >= 1, got '0'"),
    (["sweep", "good.yaml", "--plan", "gpus=8"], "--plan: expected --dry-run with it"),
    (
        ["sweep", "good.yaml", "--dry-run", "--plan", "gpus=8"],
        "the probe runs on cpu, and says nothing about gpus",
    ),
    (
        ["sweep", "good.yaml", "--dry-run", "--plan", "cores=0"],
        "--plan: expected gpus=N or cores=N, got 'cores",
    ),
    (
        ["sweep", "good.yaml", "--suite", "standart"],
        "--suite: unknown suite 'standart'; did you mean 'standard'?",
    ),
    (["sweep", "good.yaml", "--retry", "all"], "argument --retry: invalid choice: 'all'"),
    (["sweep", "good.yaml", "--executor", "ray"], "argument --executor: invalid choice: 'ray'"),
    (
        ["sweep", "good.yaml", "--trial-timeout", "10 parsecs"],
        "argument --trial-timeout: expected a duration such as 90 s, 10 min or 1h30m, in 0..9999999 s, got",
    ),
    (
        ["sweep", "good.yaml", "--trial-timeout", "90 s", "--executor", "inline"],
        "timeout: expected 0 with --executor inline, which cannot stop a job, got 1 min 30 s",
    ),
    (["status", "nowhere"], "nowhere: expected the folder of a run, found no sweep.json in it"),
    (["sweep", "good.yaml", "--slots", "0"], "expected a whole number >= 1, got '0'"),
    (["sweep", "good.yaml", "--out", "good.yaml"], "good.yaml: expected a new folder or a run of this"),
    (["sweep", "good.yaml", "--out", "."], ".: expected a new folder or a run of this sweep, found"),
    (["figures", "nowhere"], "nowhere: expected the folder of a run, found no sweep.json in it"),
    (["csv", "nowhere"], "nowhere: expected the folder of a run, found no sweep.json in it"),
    (["swep"], "invalid choice: 'swep'"),
    ([], "leakbench compare my_defense.py"),
]


@pytest.mark.parametrize(("arguments", "problem"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_a_line_and_exit_code_2(write, tmp_path, monkeypatch, capsys, arguments, problem):
    write("good.yaml", SWEEP)
    write("bad.yaml", "datasets: [mnist-sample]\ndefenses: [gaussian(variance=-1)]\n")
    monkeypatch.chdir(tmp_path)
    try:
        status = leakbench.main(arguments)
    except SystemExit as stopped:  # how argparse ends
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2
    assert problem in error
    assert "Traceback" not in error
    assert sorted(os.listdir(tmp_path)) == ["bad.yaml", "good.yaml"]


def test_another_sweep_does_not_get_the_folder_of_one(finished, write, tmp_path, capsys):
    folder, _ = finished
    other = write("other.yaml", SWEEP.replace("restarts: 2", "restarts: 1"))
    assert leakbench.main(["sweep", str(other), "--out", str(folder / "out")]) == 2
    assert "holds the run of another sweep, mine.yaml; choose another with --out" in capsys.readouterr().err


def test_a_sweep_file_that_was_changed_runs_what_is_new(write, tmp_path, capsys):
    """In the same folder; rows that are no longer requested stay there, but not in the tables."""
    arguments = ("sweep", "mine.yaml", "--executor", "inline")
    write("mine.yaml", ONE.format("none, float16"))
    assert inside(tmp_path, *arguments) == 0
    write("mine.yaml", ONE.format("none, bfloat16"))
    assert inside(tmp_path, *arguments) == 0
    output = capsys.readouterr().out
    assert "runs/mine: 1 trial is there already, 1 to run" in output
    tidy = "`leakbench tidy runs/mine` removes them"
    assert f"note: 1 stored row is no longer requested by the file, and in no table; {tidy}" in output
    table = tmp_path / "runs" / "mine" / "trials.csv"
    assert sorted(pd.read_csv(table)["defense"]) == ["bfloat16", "none"]
    write("mine.yaml", ONE.format("none, float16"))
    assert inside(tmp_path, *arguments) == 0
    assert "2 trials are there already, 0 to run" in capsys.readouterr().out
    assert sorted(pd.read_csv(table)["defense"]) == ["float16", "none"]
    assert inside(tmp_path, *arguments, "--fresh") == commands.USER_ERROR
    problem = "runs/mine: expected an empty folder, as --fresh asks for, found files"
    assert problem in capsys.readouterr().err


def test_rows_of_a_changed_defense_are_reported_and_removed_on_request(
    write, tmp_path, capsys, without_rehearsal
):
    """They have the name of the new ones, and plain pandas would read both."""
    defense = (
        "from dataclasses import dataclass\nfrom leakbench import Defense\n@dataclass(frozen=True)\n"
        "class Mine(Defense):\n    def apply(self, gradients, generator):\n"
        "        return {{name: each * {} for name, each in gradients.items()}}\n"
    )
    write("mine.yaml", ONE.format("none, 'mine.py:Mine'"))
    for factor in (0.5, 0.25):
        write("mine.py", defense.format(factor))
        assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    run = tmp_path / "runs" / "mine"
    assert len(stored(run)) == 3
    capsys.readouterr()
    assert inside(tmp_path, "status", "runs/mine") == 0
    told = "1 stored row is no longer requested by mine.yaml; `leakbench tidy runs/mine` removes them"
    assert told in capsys.readouterr().out
    kept = Store(run).rows()
    assert inside(tmp_path, "tidy", "runs/mine") == 0
    removed = r"runs/mine: removed 1 row of trials, \d+ kB\n"
    assert re.fullmatch(removed, capsys.readouterr().out)
    assert len(stored(run)) == 2
    pd.testing.assert_frame_equal(Store(run).rows(), kept)
    assert set(Store(run).traces(list(kept["key"]))) == set(kept["key"])
    assert inside(tmp_path, "status", "runs/mine") == 0
    assert "no longer requested" not in capsys.readouterr().out
    assert inside(tmp_path, "tidy", "runs/mine") == 0
    assert capsys.readouterr().out == "runs/mine: nothing to remove\n"
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    assert "2 trials are there already, 0 to run" in capsys.readouterr().out


def test_rows_of_two_versions_are_noticed(write, tmp_path, capsys):
    write("mine.yaml", ONE.format("none"))
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    write("mine.yaml", ONE.format("none, float16"))
    manifest = tmp_path / "runs" / "mine" / "sweep.json"
    torch_version = metadata.version("torch")
    manifest.write_text(manifest.read_text().replace(f'"torch": "{torch_version}"', '"torch": "1.0"'))
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    note = f"note: torch {torch_version} (begun with 1.0): new rows may differ from those that are there"
    assert note in capsys.readouterr().out


def test_a_run_that_goes_on_on_another_machine_says_so(write, tmp_path, capsys, monkeypatch):
    write("mine.yaml", ONE.format("none"))
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    write("mine.yaml", ONE.format("none, float16"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX99")
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline") == 0
    here = torch.backends.cpu.get_cpu_capability()
    note = f"note: hardware {here} ONEDNN_MAX_CPU_ISA=AVX99 (begun with {here}): new rows may differ"
    assert note in capsys.readouterr().out
    assert set(stored(tmp_path / "runs" / "mine")["hardware"]) == {here, f"{here} ONEDNN_MAX_CPU_ISA=AVX99"}


def test_list_shows_everything_with_its_settings(capsys):
    assert leakbench.main(["list"]) == 0
    text = capsys.readouterr().out
    from leakbench.reports.listing import REGISTRIES

    for registry in REGISTRIES:
        for member in registry:
            assert f"\n  {member.name} " in text
    for line in ("steps = 300", "scope = tensor", "one of tensor, global", "ratio = required"):
        assert line in text


def test_doctor_says_what_is_missing_and_how_to_get_it(capsys, tmp_path):
    assert leakbench.main(["doctor", "--data-root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "found   cifar10-sample: 20 images, 3x32x32, 10 classes" in text
    assert "missing svhn: not found: expected train_32x32.mat" in text
    assert "cores" in text


def test_a_bare_program_shows_each_command_on_one_line_and_what_to_try_first(monkeypatch, capsys):
    """The example can be copied wherever one is; nothing is wider than a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(ROOT)
    assert leakbench.main([]) == commands.USER_ERROR
    shown = capsys.readouterr()
    assert shown.out == ""
    assert max(map(len, shown.err.splitlines())) <= 80
    listed = re.findall(r"^  ([a-z][a-z-]*) {2,}\S", shown.err, re.MULTILINE)
    assert listed == re.findall(r"^## leakbench ([a-z-]+)", REFERENCE.read_text(), re.MULTILINE)
    assert "\n  leakbench sweep sweeps/quick.yaml\n" in shown.err
    monkeypatch.chdir(ROOT / "docs")
    with pytest.raises(SystemExit, match="0"):
        leakbench.main(["--help"])
    assert "\n  leakbench sweep ../sweeps/quick.yaml\n" in capsys.readouterr().out


def test_the_version_is_that_of_the_files_that_run(monkeypatch, tmp_path, capsys):
    """In a checkout that of its pyproject.toml, even if another version is installed."""
    stated = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    monkeypatch.setattr("importlib.metadata.version", {"leakbench": "7.7", "torch": "2.99"}.get)
    assert leakbench.main(["--version"]) == 0
    assert capsys.readouterr().out == f"leakbench {stated} (torch 2.99)\n"
    monkeypatch.setattr("leakbench.core.version.__file__", str(tmp_path / "leakbench/core/version.py"))
    assert leakbench.main(["--version"]) == 0
    assert capsys.readouterr().out == "leakbench 7.7 (torch 2.99)\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sweep", "--help"]])
def test_help_does_not_wait_for_pytorch(arguments):
    code = (
        "import sys, leakbench\n"
        f"try: leakbench.main({arguments})\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert b"leakbench" in done.stdout


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The rows of twelve trials, in this process, in an order of their own."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "turned.yaml").write_text(TURNED)
    assert inside(folder, "sweep", "turned.yaml", "--out", "out", "--executor", "inline", "--slots", "8") == 0
    return stored(folder / "out")


def test_an_interrupted_sweep_keeps_what_is_finished(write, tmp_path, monkeypatch, capsys):
    """Ctrl-C at the first row: exit code 130; the same command runs the rest, and no bit is another."""
    write("mine.yaml", SWEEP)
    arguments = ("sweep", "mine.yaml", "--executor", "inline", "--slots", "8", "--out")
    append = Store.append

    def interrupted(store, records):
        append(store, records)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("leakbench.sweeps.runner.SECONDS_BETWEEN_PARTS", 0)
        patch.setattr(Store, "append", interrupted)
        assert inside(tmp_path, *arguments, "out") == commands.INTERRUPTED
    assert "the same command runs the rest" in capsys.readouterr().out
    kept = len(stored(tmp_path / "out"))
    assert 0 < kept < 12
    this = f"process {os.getpid()} on {os.uname().nodename}"
    with Store.existing(tmp_path / "out").lock():
        assert inside(tmp_path, *arguments, "out") == commands.USER_ERROR
        assert f"out: {this} is writing to it" in capsys.readouterr().err
        assert inside(tmp_path, "status", "out") == 0
        assert f"out: mine.yaml, running ({this})" in capsys.readouterr().out
    assert inside(tmp_path, "status", "out") == 0
    assert "out: mine.yaml, not running" in capsys.readouterr().out
    assert inside(tmp_path, *arguments, "out") == 0
    assert re.search(rf"{kept} trials? (is|are) there already, {12 - kept} to run", capsys.readouterr().out)
    assert inside(tmp_path, *arguments, "whole") == 0
    pd.testing.assert_frame_equal(stored(tmp_path / "out"), stored(tmp_path / "whole"), check_exact=True)


@pytest.mark.long
def test_an_interrupted_process_keeps_what_is_finished(write, tmp_path, capsys, uninterrupted):
    """Ctrl-C in the middle: exit code 130; the rest is run by more workers, and no bit is another.

    Another sweep of the same trials, in another order and never stopped, is what it is held against.
    """
    write("mine.yaml", LONGER)
    arguments = ("sweep", "mine.yaml", "--out", "out", "--jobs", "1", "--slots", "8")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = start(*arguments, cwd=tmp_path, **pipes)
    parts = tmp_path / "out" / "trials.parquet"
    wait_for(lambda: list(parts.glob("part-*")))
    assert inside(tmp_path, *arguments) == commands.USER_ERROR
    runner = f"process {running.pid} on {os.uname().nodename}"
    assert f"out: {runner} is writing to it" in capsys.readouterr().err
    assert inside(tmp_path, "status", "out") == 0
    text = capsys.readouterr().out
    assert f"out: mine.yaml, running ({runner})" in text
    assert re.search(r"\n[1-9]\d? of 12 trials, \d+%: ", text)
    assert re.search(r"session 1, begun .* on cpu: \d+ trials in [\d.]+ s, [\d.e+]+/min", text)
    assert re.search(r"about .* left at this pace", text)
    running.send_signal(signal.SIGINT)
    output, error = running.communicate(timeout=60)
    assert running.returncode == commands.INTERRUPTED
    assert "the same command runs the rest" in output
    assert "Traceback" not in output + error
    assert inside(tmp_path, "status", "out") == 0
    assert "out: mine.yaml, not running" in capsys.readouterr().out
    kept = len(pd.read_parquet(parts))
    assert 0 < kept < 12
    write("out/.keep", "")
    again = command("sweep", "mine.yaml", "--out", "out", "--jobs", "2", "--slots", "8", cwd=tmp_path)
    assert re.search(rf"{kept} trials? (is|are) there already, {12 - kept} to run", again.stdout)
    rows = stored(tmp_path / "out")
    assert len(rows) == rows["key"].nunique() == 12
    pd.testing.assert_frame_equal(rows, uninterrupted, check_exact=True)


@pytest.mark.parametrize(
    ("typed", "without"),
    [([], ""), (["--force", "n*"], ", without --force,"), (["--fresh"], ", without --fresh,")],
)
def test_the_command_that_runs_the_rest(write, tmp_path, monkeypatch, capsys, typed, without):
    write("mine.yaml", SWEEP)
    monkeypatch.setattr("leakbench.commands.sweep.sweep_file", stop(InterruptedRunError))
    assert inside(tmp_path, "sweep", "mine.yaml", *typed) == commands.INTERRUPTED
    text = f"stopped; what is finished is stored: the same command{without} runs the rest\n"
    assert capsys.readouterr().out == text


def test_an_interrupt_of_what_comes_after_a_run(monkeypatch, capsys):
    monkeypatch.setattr("leakbench.commands.about.show_version", stop(KeyboardInterrupt))
    assert leakbench.main(["--version"]) == commands.INTERRUPTED
    assert capsys.readouterr().err == "stopped; what was stored is kept\n"


def stop(error):
    """What raises the error, whatever it is called with."""

    def stopped(*_arguments, **_options):
        raise error

    return stopped


def test_a_batch_system_stops_a_sweep_as_ctrl_c_does(write, tmp_path):
    write("mine.yaml", SWEEP.replace("steps=3", "steps=30000"))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = start("sweep", "mine.yaml", "--out", "out", "--jobs", "1", cwd=tmp_path, **pipes)
    manifest = tmp_path / "out" / "sweep.json"
    wait_for(lambda: manifest.exists() and '"began"' in manifest.read_text())
    running.send_signal(signal.SIGTERM)
    output, error = running.communicate(timeout=60)
    assert running.returncode == commands.INTERRUPTED
    assert output.endswith("stopped; what is finished is stored: the same command runs the rest\n")
    assert error == ""
