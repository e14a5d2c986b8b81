"""The program as a user runs it: real processes."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import leakbench

ROOT = Path(__file__).parent.parent
# a file of a user with a network
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, image_shape, classes):
        channels, height, width = image_shape
        first, last = nn.Linear(channels * height * width, 32), nn.Linear(32, classes)
        super().__init__(nn.Flatten(), first, nn.Sigmoid(), last)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def plain(arguments):
    """The arguments of a sweep without its figures, which take longer than its attacks."""
    return [*map(str, arguments), *(["--no-figures"] if arguments[0] == "sweep" else [])]


def command(*arguments, figures=False, **options):
    """Run `leakbench ARGUMENTS` to its end."""
    typed = map(str, arguments) if figures else plain(arguments)
    return subprocess.run(
        [sys.executable, "-m", "leakbench", *typed],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=180, **options,
    )  # fmt: skip


def inside(folder, *arguments):
    """The program in this process, without its figures; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return leakbench.main(plain(arguments))


def start(*arguments, **options):
    """Start `leakbench ARGUMENTS`; a shell lets what it starts in the background ignore Ctrl-C: not this."""
    return subprocess.Popen(
        [sys.executable, "-m", "leakbench", *plain(arguments)],
        text=True, env=ENVIRONMENT, preexec_fn=heed_interrupts, **options,
    )  # fmt: skip


def heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def no_space(*_arguments, **_options):
    """In place of what writes a file."""
    raise OSError(errno.ENOSPC, "No space left on device")


def copy_of_the_project(folder):
    """In which runs may be written and files changed."""
    ignored = shutil.ignore_patterns(".*", "runs", "data", "*.egg-info", "__pycache__", "build", "dist")
    return shutil.copytree(ROOT, folder, ignore=ignored)


def stored(folder):
    """The rows of a run's folder as plain pandas reads them, in an order of their own, without the time."""
    rows = pd.read_parquet(folder / "trials.parquet")
    return rows.drop(columns=["seconds", "defense_seconds"]).sort_values("key", ignore_index=True)


def children(pid):
    """The processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found
