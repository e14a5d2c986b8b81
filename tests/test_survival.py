"""What goes wrong around a sweep: plug-ins that misbehave, disks that are full, folders that are closed."""

import ctypes
import os
import re
import resource
import subprocess
import sys

import pandas as pd
import pytest
from running import ENVIRONMENT, command, inside, stored

from leakbench import commands
from leakbench.sweeps.rehearsal import files_named

BAD = """
import os, time
from dataclasses import dataclass
from torch import nn
from leakbench import Defense

@dataclass(frozen=True)
class Bad(Defense):
    deed: str
    def apply(self, gradients, generator):
        if self.deed == "raise": raise ValueError("never [red]works")
        if self.deed == "leave": raise SystemExit(0)
        if self.deed == "nan": return {name: each * float("nan") for name, each in gradients.items()}
        if self.deed == "shape": return {name: each.flatten() for name, each in gradients.items()}
        if self.deed == "hang": time.sleep(1000)
        if self.deed == "exit": os._exit(0)
        return gradients

class Exits(nn.Linear):
    def __init__(self): super().__init__(784, 10)
    def forward(self, images): os._exit(0)
"""
SWEEP = """
datasets: [mnist-sample]
models: ['mlp(hidden=[16])']
defenses: [none, float16]
attacks: [dlg(steps=2)]
"""


CONTRACT = "ContractError: defense bad.py:Bad(deed={}): gradient '1.weight': {}"
REASONS = {
    "bad.py:Bad(deed=raise)": "ValueError: never [red]works",
    "bad.py:Bad(deed=leave)": "SystemExit: 0",
    'bad.py:Bad(deed="nan")': CONTRACT.format('"nan"', "holds NaN or infinity"),
    "bad.py:Bad(deed=shape)": CONTRACT.format("shape", "expected shape (16, 784), got (12544,)"),
}
ENDINGS = {
    "bad.py:Bad(deed=hang)": "no result after 8 s (timeout)",
    "bad.py:Bad(deed=exit)": "worker died (exit code 0) twice while preparing this trial",
}


def misbehave(write, deeds):
    write("bad.py", BAD)
    defenses = f"[none, {{name: 'bad.py:Bad', deed: [{deeds}]}}]"
    write("mine.yaml", SWEEP.replace("[none, float16]", defenses))


def check_reasons(folder, expected, output):
    rows = stored(folder)
    reasons = dict(zip(rows["defense"], rows["reason"], strict=True))
    assert "2 steps" in reasons.pop("none")
    assert reasons == expected
    for reason in reasons.values():
        assert f"1 trial failed: {reason}" in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("without_rehearsal")
def test_plug_ins_that_misbehave_are_rows_that_say_so(write, tmp_path, capsys):
    misbehave(write, "raise, leave, nan, shape")
    status = inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline")
    assert status == commands.TRIALS_FAILED
    shown = capsys.readouterr()
    check_reasons(tmp_path / "out", REASONS, shown.out + shown.err)


@pytest.mark.long
def test_plug_ins_that_hang_or_end_their_process_are_rows_too(write, tmp_path):
    misbehave(write, "raise, leave, nan, shape, hang, exit")
    done = command("sweep", "mine.yaml", "--out", "out", "--trial-timeout", "8 s", cwd=tmp_path)
    assert done.returncode == commands.TRIALS_FAILED, done.stderr
    assert "note: bad.py is imported, because defenses[1] names it" in done.stdout
    check_reasons(tmp_path / "out", REASONS | ENDINGS, done.stdout + done.stderr)


def test_a_model_that_ends_its_process_is_found_out_before_the_start(write, tmp_path, capsys):
    write("bad.py", BAD)
    write("mine.yaml", SWEEP.replace("mlp(hidden=[16])", "bad.py:Exits"))
    assert inside(tmp_path, "sweep", "mine.yaml") == commands.USER_ERROR
    expected = "mine.yaml: expected code that can be checked, found code that ends its process (exit code 0)"
    assert capsys.readouterr().err.strip() == f"{expected}; look at bad.py"
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == {"bad.py", "mine.yaml"}


INLINE = ("--executor", "inline", "--no-figures")


def run_under(before, write, tmp_path, out="out"):
    """A sweep in a process for which `before` has changed what the system allows."""
    write("mine.yaml", SWEEP)
    return subprocess.run(
        [sys.executable, "-m", "leakbench", "sweep", "mine.yaml", "--out", out, *INLINE],
        preexec_fn=before, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def obey_permissions():
    """Root may write anywhere, unless it gives that up: CAP_DAC_OVERRIDE, by PR_CAPBSET_DROP."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0


def test_a_folder_that_may_not_be_written_to_is_a_line(write, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    done = run_under(obey_permissions, write, tmp_path, "closed/out")
    assert done.returncode == commands.USER_ERROR
    assert done.stderr.strip() == "closed/out: cannot be written to: Permission denied"


def test_a_run_in_a_folder_that_was_closed_is_a_line(write, tmp_path):
    write("mine.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = run_under(obey_permissions, write, tmp_path)
    assert done.returncode == commands.USER_ERROR
    assert done.stderr.strip() == "out: cannot be written to: Permission denied"


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


def test_rows_that_cannot_be_written_end_the_sweep_with_a_sentence(write, tmp_path):
    """The manifest fits in what may be written, a part of the table does not."""
    done = run_under(small_files, write, tmp_path)
    assert done.returncode == commands.STOPPED, done.stdout
    reason = "out: cannot be written to: File too large; "
    lost = "(1 finished trial|2 finished trials) could not be stored and will run again"  # as they come in
    assert re.match(reason + lost, done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    again = inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline")
    assert again == 0
    assert len(stored(tmp_path / "out")) == 2


SMALL_DISK = "mount -t tmpfs -o size=8m none disk"
FILL = "head -c $(($(df --output=avail -B1 disk | tail -1) - 60000)) /dev/zero > disk/ballast"
FULL = {  # what happens before the sweep is run, and the end that it then has
    "rows": (FILL, "disk/out: cannot be written to: No space left on device"),
    "figures": (
        f"{{sweep}} && rm -r disk/out/figures disk/out/trials.csv && {FILL}",
        "disk/out: tables and figures cannot be written: No space left on device; the rows are stored",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("filled_by", FULL)
def test_a_disk_that_is_full_keeps_what_is_on_it(write, tmp_path, filled_by):
    (tmp_path / "disk").mkdir()
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", SMALL_DISK], cwd=tmp_path, capture_output=True
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    before, end = FULL[filled_by]
    write("mine.yaml", SWEEP.replace("mnist-sample", "{name: mnist-sample, indices: 0-19}"))
    sweep = f"{sys.executable} -m leakbench sweep mine.yaml --out disk/out --jobs 1 --slots 8"
    filled = f"{SMALL_DISK} && {before.format(sweep=sweep)}"
    script = f"{filled} && {sweep}; status=$?; cp -r disk/out out; exit $status"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == commands.STOPPED, done.stdout + done.stderr
    assert end in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    rows = stored(tmp_path / "out")
    assert len(rows) == rows["key"].nunique() == 40


def test_a_file_is_named_without_the_key_before_it():
    text = "defenses: [{name: my.py:Mine, size: 2}, 'your own.py:Yours']\nmodels:\n  - name: a/net.py:Net\n"
    assert files_named(text) == ["a/net.py", "my.py", "your own.py"]


@pytest.mark.usefixtures("without_rehearsal")
def test_failed_trials_are_run_again_on_request(write, tmp_path, capsys):
    source = BAD.replace('if self.deed == "raise"', 'if not os.path.exists("mended")')
    write("bad.py", source)
    write("mine.yaml", SWEEP.replace("[none, float16]", "[none, {name: 'bad.py:Bad', deed: raise}]"))
    arguments = ("sweep", "mine.yaml", "--out", "out", "--executor", "inline")
    assert inside(tmp_path, *arguments) == commands.TRIALS_FAILED
    write("mended", "")
    capsys.readouterr()
    assert inside(tmp_path, *arguments) == commands.TRIALS_FAILED  # what failed is done, too
    assert "out: 2 trials are there already, 0 to run" in capsys.readouterr().out
    assert inside(tmp_path, *arguments, "--retry", "errors") == 0
    text = "out: 1 trial is there already, 1 to run, 1 of them again after an error"
    assert text in capsys.readouterr().out
    rows = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert len(rows) == 2
    assert not (rows["status"] == "error").any()
