"""`leakbench.run`, a sweep from Python, and the example notebook."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from running import ENVIRONMENT

from leakbench import FailedTrialsError, run
from leakbench.core.errors import UserError
from leakbench.sweeps.tables import TRIALS

SMALL = {
    "datasets": ["mnist-sample"],
    "models": ["mlp(hidden=[16])"],
    "defenses": ["none", "int8"],
    "attacks": ["dlg(steps=1)"],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_content_of_a_sweep_file_runs_and_gives_the_rows(capsys):
    rows = run(SMALL, out="runs/mine", jobs=1)
    assert {name: str(dtype) for name, dtype in rows.dtypes.items()} == TRIALS.dtypes
    assert set(rows["defense"]) == {"none", "int8"}
    assert "runs/mine.yaml: 2 trials" in capsys.readouterr().out
    assert not Path("runs/mine/figures").exists()
    again = run(SMALL, out="runs/mine", jobs=1, quiet=True)
    pd.testing.assert_frame_equal(rows, again)  # the seconds, too: nothing was run
    assert capsys.readouterr().out == ""


def test_a_file_runs_as_from_the_command_line(write):
    file = write("small.yaml", yaml.safe_dump({**SMALL, "defenses": ["none"]}))
    assert len(run(file, quiet=True, executor="inline")) == 1
    assert Path("runs/small/trials.parquet").is_dir()


def test_what_is_wrong_is_raised_in_a_line():
    with pytest.raises(UserError, match=r"^x.yaml: defenses\[0\]: unknown defense 'prun'"):
        run({**SMALL, "defenses": ["prun"]}, out="x")
    with pytest.raises(TypeError, match="out: expected a folder for the run"):
        run(SMALL)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"jobs": 0}, "jobs: expected a whole number >= 1, got 0"),
        ({"slots": 1.5}, "slots: expected a whole number >= 1, got 1.5"),
        ({"trial_timeout": "soon"}, "trial_timeout: expected a duration such as 90 s"),
        ({"trial_timeout": "90 s", "executor": "inline"}, "timeout: expected 0 with --executor inline"),
        ({"executor": "inlien"}, "--executor: unknown executor 'inlien'; did you mean 'inline'?"),
    ],
)
def test_options_that_cannot_be_are_raised_in_a_line(options, text):
    with pytest.raises(UserError, match=f"^{re.escape(text)}"):
        run(SMALL, out="x", **options)


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name_is_refused(out):
    with pytest.raises(UserError, match=f"^out: expected the name of a folder, got {re.escape(repr(out))}$"):
        run(SMALL, out=out)


def test_a_mapping_does_not_overwrite_a_file_that_was_written_by_hand(write):
    file = write("mine.yaml", "defenses: [none]\n")
    with pytest.raises(UserError, match="^mine.yaml: expected no file or one that begins with"):
        run(SMALL, out="mine")
    assert file.read_text() == "defenses: [none]\n"


@pytest.mark.usefixtures("without_rehearsal")
def test_failed_trials_are_raised_with_all_rows(write):
    write("fails.py", "from leakbench import Attack\n"
          "class Fails(Attack):\n"
          "    def invert(self, case): raise RuntimeError('no luck today')\n")  # fmt: skip
    wanted = {**SMALL, "attacks": ["dlg(steps=1)", "fails.py:Fails"], "defenses": ["none"]}
    text = r"^1 of 2 trials failed: RuntimeError: no luck today \(1\); retry=True runs them again"
    with pytest.raises(FailedTrialsError, match=text) as caught:
        run(wanted, out="x", executor="inline", quiet=True)
    assert sorted(caught.value.rows["status"]) == ["budget", "error"]
    found = run(wanted, out="x", executor="inline", quiet=True, check=False)
    pd.testing.assert_frame_equal(found, caught.value.rows)


def test_it_can_do_what_the_command_line_can(write, capsys):
    file = write("own.yaml", yaml.safe_dump({**SMALL, "quick": {"defenses": ["none"]}}))
    first = run(file, out="first", executor="inline", slots=2)
    assert "cpu: 1 worker x 1 thread, 2 slots each" in capsys.readouterr().out
    assert list(run(file, out="second", quick=True, executor="inline", reuse=["first"])["defense"]) == [
        "none"
    ]
    assert "first: 1 row taken from there" in capsys.readouterr().out
    third = run(file, out="third", suite="standard", executor="inline")
    assert set(third["attack"]) == {"linear"}  # of the suite's attacks the first, and all leaks to it
    assert len(run(file, out="first", figures=True, executor="inline")) == len(first) == 2
    assert Path("first/report.html").is_file()
    with pytest.raises(UserError, match="^first: expected an empty folder, as --fresh asks for"):
        run(file, out="first", fresh=True, quiet=True)
    with pytest.raises(UserError, match="^--suite: unknown suite 'strong'"):
        run(file, suite="strong")


@pytest.mark.long
def test_the_notebook_runs_as_it_is(here):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    file = Path(__file__).parent.parent / "examples" / "notebook.ipynb"
    notebook = nbformat.read(file, as_version=4)
    notebook.cells[1].source = notebook.cells[1].source.replace("steps=60", "steps=4")
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(here)}})
    client.execute(env=ENVIRONMENT)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "prune(ratio=0.1)" in codes[1].outputs[0]["data"]["text/plain"]
    assert "leaked" in codes[2].outputs[0]["data"]["text/plain"]
    assert "image/svg+xml" in codes[3].outputs[0]["data"]


def test_the_notebook_is_kept_without_outputs():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(Path(__file__).parent.parent / "examples" / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
