"""`leakbench rows`, and what is shown of a run while it is under way."""

import io
import json
import re
import signal
import subprocess

import pandas as pd
import pytest
from running import inside, start, wait_for

from leakbench import commands
from leakbench.reports.csv_file import read_csv
from leakbench.reports.query import where
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRIALS

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
models: ['mlp(hidden=[16])']
defenses: [none, int8, prune(ratio=0.5)]
attacks: [dlg(steps=2)]
restarts: 2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder that a finished run lies in, as `out`."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "mine.yaml").write_text(SWEEP)
    assert inside(folder, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    return folder


@pytest.fixture
def printed(run, capsys):
    """What `leakbench rows out ARGUMENTS` prints."""

    def rows(*arguments):
        capsys.readouterr()
        assert inside(run, "rows", "out", *arguments) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    return rows


def test_a_table_is_as_wide_as_it_is_and_has_what_tells_rows_apart(run, printed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    heads, _, *lines = printed().splitlines()
    assert heads.split() == ["defense", "index", "start", "status", "ssim", "psnr", "mse"]
    assert len(lines) == 12
    assert lines[-1].split()[:3] == ["prune(ratio=0.5)", "1", "1"]
    rows = Store.existing(run / "out").rows()
    assert lines[-1].split()[4] == f"{rows['ssim'].iloc[-1]:.4g}"


def test_each_format_gives_the_stored_values(run, printed):
    """CSV is what the sweep wrote; JSON has plain numbers, and null where there is none."""
    assert printed("--format", "csv") == (run / "out" / "trials.csv").read_text()
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(printed("--format", "tsv")), sep="\t"),
        pd.read_csv(run / "out" / "trials.csv"),
    )
    rows = read_csv(run / "out" / "trials.csv")
    objects = json.loads(printed("--format", "json"))
    assert [each["ssim"] for each in objects] == list(rows["ssim"])
    strengths = {each["defense"]: each["strength"] for each in objects}
    assert strengths == {"none": None, "int8": None, "prune(ratio=0.5)": 0.5}
    assert {type(each["index"]) for each in objects} == {int}
    assert {type(each["label_correct"]) for each in objects} <= {bool}
    markdown = printed("--format", "md", "--columns", "defense, strength").splitlines()
    assert markdown[:3] == ["| defense | strength |", "| --- | --- |", "| int8 | - |"]
    assert markdown[-1] == "| prune(ratio=0.5) | 0.5 |"


def test_rows_are_chosen_and_sorted(printed):
    typed = ("--format", "csv", "--columns", "defense,index,ssim", "--where")
    chosen = pd.read_csv(io.StringIO(printed(*typed, 'defense == "int8" and index == 1', "--sort", "ssim")))
    assert list(chosen["defense"]) == ["int8", "int8"]
    assert list(chosen["index"]) == [1, 1]
    assert chosen["ssim"].is_monotonic_increasing
    turned = pd.read_csv(io.StringIO(printed(*typed, "index == 1", "--sort", "ssim", "--reverse")))
    assert turned["ssim"].is_monotonic_decreasing
    assert len(turned) == 6
    assert printed("--where", "ssim > 2", "--format", "json") == "[]\n"


ROWS = pd.DataFrame({
    "index": pd.array([5, 6, None], "Int64"), "ssim": [0.1, 0.9, float("nan")],
    "defense": pd.array(["none", "a@b", "int8"], "str"),
    "label_correct": pd.array([True, False, None], "boolean"),
})  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "places"),
    [
        ("ssim > 0.5", [1]),
        ("index == 5", [0]),  # the column, not the place
        ('defense in ["none", "int8"]', [0, 2]),
        ('defense not in ("none", "int8")', [1]),
        ('defense == "a@b"', [1]),
        ("not (ssim > 0.5) and ssim == ssim", [0]),
        ("0.05 < ssim <= 0.1 or (index - 1) * 2 / 2 == 5", [0, 1]),
        ("(ssim < 0.5) | (index == 6)", [0, 1]),
        ("ssim > -1", [0, 1]),
        ("label_correct", [0]),
        ("not label_correct", [1]),
        ("label_correct == False", [1]),
    ],
)
def test_a_condition_is_about_columns(condition, places):
    assert list(where(ROWS, condition).index) == places


NOT_ALLOWED = "--where: expected comparisons, and, or, not, + - * / and lists, got "
NONE = "--where: expected a condition such as 'ssim > 0.5', got "
BAD = [
    (
        ("--where", "defence == 1"),
        "--where: unknown column 'defence'; did you mean 'defense'? known: key, dat",
    ),
    (("--where", "__import__('os').abort()"), f"{NOT_ALLOWED}\"__import__('os').abort()\""),
    (("--where", "defense.str.len() > 1"), f"{NOT_ALLOWED}'defense.str.len()'"),
    (("--where", "(1).__class__ == 1"), f"{NOT_ALLOWED}'1 .__class__'"),
    (("--where", "[x for x in ssim] == 1"), f"{NOT_ALLOWED}'[x for x in ssim]'"),
    (("--where", "(lambda: 1) == 1"), f"{NOT_ALLOWED}'lambda: 1'"),
    (("--where", "9 ** 9 ** 9 > 1"), f"{NOT_ALLOWED}'9 ** 9 ** 9 > 1'"),
    (("--where", "f'{ssim}' == 1"), f"{NOT_ALLOWED}\"f'{{ssim}}'\""),
    (("--where", "ssim[0] == 1"), f"{NOT_ALLOWED}'ssim[0]'"),
    (("--where", "defense is defense"), f"{NOT_ALLOWED}'defense is defense'"),
    (("--where", "ssim @ index == 1"), f"{NOT_ALLOWED}'ssim @ index == 1'"),
    (("--where", "@rows == 1"), f"{NONE}'@rows == 1': invalid syntax"),
    (("--where", "`ssim` > 1"), f"{NONE}'`ssim` > 1': invalid syntax"),
    (("--where", "ssim = 1"), f"{NONE}'ssim = 1': invalid syntax"),
    (("--where", ""), f"{NONE}'': invalid syntax"),
    (("--where", "ssim"), f"{NONE}'ssim'"),
    (("--where", "1 == 1"), f"{NONE}'1 == 1'"),
    (("--where", "reason == None"), "--where: expected text, numbers, True or False as values, got None"),
    (("--where", "defense > 1"), "--where: 'defense > 1': TypeError: "),
    (
        ("--columns", "defense,sim"),
        "--columns: unknown column 'sim'; did you mean 'ssim'? known: key, dataset",
    ),
    (("--sort", "sim"), "--sort: unknown column 'sim'; did you mean 'ssim'? known: key, dataset, "),
    (("--format", "xls"), "argument --format: invalid choice: 'xls'"),
]


@pytest.mark.parametrize(("arguments", "problem"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_a_line(run, capsys, arguments, problem):
    try:
        status = inside(run, "rows", "out", *arguments)
    except SystemExit as stopped:  # how argparse ends
        status = stopped.code
    shown = capsys.readouterr()
    assert status == commands.USER_ERROR
    assert shown.err.splitlines()[-1].removeprefix("leakbench rows: error: ").startswith(problem)
    assert shown.out == ""


@pytest.mark.parametrize("form", ["csv", "table"])
def test_a_reader_that_has_enough_is_no_error(run, form):
    """Like `head`: it is gone before the first line comes."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start("rows", "out", "--format", form, cwd=run, **pipes) as printing:
        printing.stdout.close()
        assert printing.stderr.read() == ""
    assert printing.returncode == {"csv": commands.BROKEN_PIPE, "table": 1}[form]  # a table is rich's


LONG = """
datasets: [mnist-sample]
models: ['mlp(hidden=[16])']
defenses: [none, int8, prune(ratio=0.5)]
attacks: [dlg(steps=2), 'cosine(steps=100000, optimizer=adam)']
"""


def test_a_run_under_way_is_shown_as_far_as_it_is(write, tmp_path, capsys):
    """By the commands that read a run, with a line that does not get into what they print."""
    write("mine.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    store = Store.existing(tmp_path / "out")
    store.forget(TRIALS, set(store.rows()["key"][5:]))
    capsys.readouterr()
    with store.lock():  # as a process that runs the rest does
        for verb in ("csv", "report", "rows"):
            assert inside(tmp_path, verb, "out") == 0
            shown = capsys.readouterr()
            assert shown.err == "out: the run is under way: 5 of 12 trials\n", verb
            assert "under way" not in shown.out
    assert len(shown.out.splitlines()) == 2 + 5
    assert inside(tmp_path, "csv", "out") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.long
def test_the_rows_of_a_process_that_runs_are_shown(write, tmp_path, capsys):
    write("mine.yaml", LONG)
    arguments = ("sweep", "mine.yaml", "--out", "out", "--jobs", "1")
    running = start(*arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        parts = tmp_path / "out" / "trials.parquet"
        wait_for(lambda: list(parts.glob("part-*")))
        for verb in ("csv", "report", "rows"):
            assert inside(tmp_path, verb, "out") == 0
            shown = capsys.readouterr()
            told = re.fullmatch(r"out: the run is under way: (\d+) of 6 trials\n", shown.err)
            assert told, (verb, shown.err)
            assert "under way" not in shown.out
            assert 0 < int(told[1]) < 6
        assert len(shown.out.splitlines()) == 2 + int(told[1])
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(60)
    assert inside(tmp_path, "csv", "out") == 0
    assert capsys.readouterr().err == ""


def test_before_the_first_trial_has_ended_there_is_nothing_to_show(write, tmp_path, capsys):
    write("mine.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    store = Store.existing(tmp_path / "out")
    store.forget(TRIALS, set(store.statuses()))
    capsys.readouterr()
    with store.lock():
        assert inside(tmp_path, "rows", "out") == commands.USER_ERROR
    problem = "out: expected trials, found none; the run is under way: 0 of 12 trials\n"
    assert capsys.readouterr().err == problem
    assert inside(tmp_path, "rows", "out") == commands.USER_ERROR
    assert "found none; `leakbench sweep FILE --out out` runs them" in capsys.readouterr().err


@pytest.mark.parametrize("ended", [["prune(ratio=0.5)"], ["none"]])
def test_a_report_of_the_first_trials_alone(write, tmp_path, capsys, ended):
    """Also where the undefended attack is not among them."""
    write("mine.yaml", SWEEP.replace("restarts: 2", "restarts: 1"))
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out", "--executor", "inline") == 0
    store = Store.existing(tmp_path / "out")
    rows = store.rows()
    store.forget(TRIALS, set(rows["key"]) - set(rows[rows["defense"].isin(ended)]["key"][:1]))
    assert inside(tmp_path, "report", "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert ("No attack on an undefended gradient has ended yet" in page) == ("none" not in ended)
