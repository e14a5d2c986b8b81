"""Wheel, editable install and checkout, each used where other packages have the names of our folders."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from running import ROOT, copy_of_the_project, stored
from test_cluster import cluster
from test_docs import FLOORS

pytestmark = pytest.mark.long

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
models: ['mlp(hidden=[16])']
defenses: [none, 'mine.py:Mine']
attacks: [dlg(steps=2)]
"""
MINE = """
from dataclasses import dataclass
from leakbench import Defense

@dataclass(frozen=True)
class Mine(Defense):
    def apply(self, gradients, generator):
        return {name: 0.5 * gradient for name, gradient in gradients.items()}
"""
RUN = """
import leakbench, defenses
assert defenses.FACTOR == 0.5
print(len(leakbench.run("mine.yaml", out="python", jobs=1, quiet=True)))
"""


NOTEBOOK = """
import nbclient, nbformat
cells = [nbformat.v4.new_code_cell({code!r})]
nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=120).execute()
print(cells[0].outputs[0]["text"])
"""
INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
COMPARE = "compare mine.py:Mine --against float16 --data mnist-sample --model mlp(hidden=[16]) --jobs 1"


def call(command, folder):
    """What it prints; its error, if it fails."""
    done = subprocess.run(command, cwd=folder, env=INSTALLED, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy, because building writes next to the sources."""
    return copy_of_the_project(tmp_path_factory.mktemp("copy") / "leakbench-copy")


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    """The two files that are published; the wheel is made of the other one."""
    folder = tmp_path_factory.mktemp("dist")
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout], folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


@pytest.fixture
def theirs(tmp_path):
    """A folder of a user's whose packages are named as all of ours."""
    folder = tmp_path / "theirs"
    for part in (*FLOORS, "tests"):
        (folder / part).mkdir(parents=True)
        (folder / part / "__init__.py").write_text("FACTOR = 0.5\n")
    (folder / "mine.py").write_text(MINE)
    (folder / "mine.yaml").write_text(SWEEP)
    return folder


def environment(folder, *arguments):
    """The Python of a fresh environment with our dependencies and what `pip install ARGUMENTS` installs."""
    call([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))  # not what .pth files in there name
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    if arguments:
        call([*pip, "--no-build-isolation", "--ignore-installed", *arguments], folder)
    return python


def test_the_wheel_holds_one_package_and_all_of_it(built):
    wheel, source = built
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"leakbench"}
    ours = [
        path.relative_to(ROOT)
        for part in ("leakbench", *FLOORS)
        for path in (ROOT / part).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    assert len(ours) > 150
    expected = {str(path if path.parts[0] == "leakbench" else "leakbench" / path) for path in ours}
    assert {name for name in names if "dist-info" not in name} == expected
    with tarfile.open(source) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "tests/running.py", *map(str, ours)} <= packed
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= packed


def test_its_description_leads_nowhere_that_an_index_does_not_have(built):
    wheel, _ = built
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith("METADATA")]
        text = file.read(name).decode()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 3
    assert all(link.startswith("http") for link in links)
    assert "![" not in text
    assert "*What the attack" not in text


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_it_is_used_next_to_packages_of_the_same_names(kind, built, checkout, theirs, tmp_path):
    what = {"wheel": [built[0]], "editable": ["--editable", checkout]}[kind]
    python = environment(tmp_path / "environment", *what)
    program = python.parent / "leakbench"
    assert "mine.py:Mine" in call([program, "sweep", "mine.yaml", "--out", "out", "--no-figures"], theirs)
    assert call([python, "-c", RUN], theirs).split() == ["4"]
    if kind == "wheel":
        assert "mine.py:Mine: accuracy" in call([python, "-m", "leakbench", *COMPARE.split()], theirs)
        assert call([python, "-c", NOTEBOOK.format(code=RUN)], theirs).split() == ["4"]
        with cluster(theirs, 1, python, INSTALLED) as (address, _):
            dask = ["--executor", "dask", "--scheduler", address]
            call([program, "sweep", "mine.yaml", "--out", "dask", "--no-figures", *dask], theirs)
        pd.testing.assert_frame_equal(stored(theirs / "dask"), stored(theirs / "out"), check_exact=True)


def test_a_checkout_runs_as_it_is(checkout, theirs):
    """As the README says: in its folder, with what it needs installed."""
    python = environment(theirs / "environment")
    (theirs / "mine.yaml").write_text(SWEEP.replace("mine.py", f"{theirs}/mine.py"))
    output = call([python, "-m", "leakbench", "sweep", theirs / "mine.yaml", "--no-figures"], checkout)
    assert "mine.py:Mine" in output
