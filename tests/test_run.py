"""A run as reports read it: everything once, and no more than is needed."""

import subprocess
import sys
from collections import Counter

import pytest
from made_up import store, table
from running import ENVIRONMENT

from leakbench.reports import figures, setting
from leakbench.reports.figures import kinds, write_figures
from leakbench.reports.page import write_page
from leakbench.reports.run import Run
from leakbench.reports.tables import terminal_tables
from leakbench.sweeps.store import Store

CELLS = [
    (name, index, start, 0.1 + start, ssim)
    for name, ssim in (("none", 0.95), ("int8", 0.5))
    for index in range(3)
    for start in range(2)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return store(tmp_path_factory.mktemp("run") / "run", table(*CELLS))


def test_everything_is_read_and_worked_out_once(made, monkeypatch):
    calls = Counter()

    def count(place, name):
        whole = getattr(place, name)

        def counted(*arguments, **options):
            calls[name] += 1
            return whole(*arguments, **options)

        monkeypatch.setattr(place, name, counted)

    for name in ("rows", "index_rows", "curves", "histories"):
        count(Store, name)
    for name in ("kept_starts", "judged", "summary", "board", "raised"):
        count(setting, name)
    run = Run(made)
    assert len(list(terminal_tables(run.settings))) == 1
    write_page(run, write_figures(run))
    expected = {"rows", "index_rows", "curves", "histories"}
    expected |= {"kept_starts", "judged", "summary", "board", "raised"}
    assert calls == {**dict.fromkeys(expected, 1), "rows": 2}  # of the trials, and of the trainings


def test_a_sweep_without_figures_imports_no_matplotlib(write, tmp_path):
    sweep = write(
        "mine.yaml",
        "datasets: [mnist-sample]\nmodels: ['mlp(hidden=[16])']\ndefenses: [none, int8]\n"
        "attacks: [dlg(steps=1)]\nprobes: [index]\n",
    )
    arguments = ["sweep", str(sweep), "--out", str(tmp_path / "out"), "--executor", "inline", "--no-figures"]
    code = f"import leakbench, sys; status = leakbench.main({arguments})"
    code += "; print('matplotlib' in sys.modules, status)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=180
    )
    assert done.stdout.splitlines()[-1] == "False 0", done.stderr
    assert "c(M)" in done.stdout  # the tables of indices do without it, too


FIGURE = """
from matplotlib.figure import Figure
from leakbench.reports.figures.kind import Kind

def draw(run, setting, curves):
    yield "", Figure(figsize=(len(curves), 1))

KIND = Kind(15, "mine", "What I drew", draw)
"""


def test_a_new_figure_is_one_file(made, write, tmp_path, monkeypatch):
    write("mine_is_new.py", FIGURE)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    kinds.cache_clear()
    try:
        run = Run(made)
        drawn = write_figures(run, tmp_path / "figures")
        assert [each.name for each in drawn] == ["scores", "mine", "curves", "strip", "film"]
        assert "What I drew" in write_page(run, drawn).read_text()
    finally:
        kinds.cache_clear()


def test_curves_are_read_without_pictures(made, monkeypatch):
    traces = made.traces(["0", "3"])
    monkeypatch.setattr("leakbench.sweeps.records.picture", None)
    for key, curves in made.curves(["0", "3", "none"]).items():
        assert curves.objective.tolist() == traces[key].objective.tolist()
        assert curves.errors.tolist() == traces[key].errors.tolist()
    assert set(traces) == {"0", "3"} == set(made.curves(["0", "3", "none"]))


def test_originals_are_those_that_are_there(made):
    places = [("cifar10-sample", 0), ("cifar10-sample", 2), ("cifar10-sample", 7), ("mnist-sample", 0)]
    assert set(made.originals(places)) == set(places[:2])
