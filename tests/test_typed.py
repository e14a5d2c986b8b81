"""A sweep given by typed options: without a file, or in place of some of its keys."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from running import inside

from leakbench.core.errors import UserError
from leakbench.sweeps.typed import Typed, merge

FILE = """
datasets: [{name: mnist-sample, indices: 0-3}, fashion-mnist-sample]
defenses: [none, {name: prune, ratio: [0.1, 0.5]}, int8]
attacks: [dlg(steps=1)]
training: {epochs: 3}
quick: {restarts: 2}
"""


FEW = """
datasets: [mnist-sample]
models: ['mlp(hidden=[16])']
defenses: [none, int8]
attacks: [dlg(steps=1)]
"""


@pytest.fixture
def file(write):
    return write("some.yaml", FILE)


def merged(file=None, settings=(), indices="", suite="", quick=False, **lists):
    return merge(file, Typed(lists, indices, settings, suite, quick))


def test_without_a_file_the_strongest_attacks_meet_the_undefended_gradient():
    assert merged(datasets=("mnist-sample",), indices="0-4") == {
        "defenses": ["none"],
        "suite": "standard",
        "datasets": [{"name": "mnist-sample", "indices": "0-4"}],
    }


def test_what_is_typed_takes_the_place_of_what_the_file_has(file):
    content = merged(file, defenses=("float16",), attacks=("adaptive",), settings=("restarts=3",))
    assert content["defenses"] == ["float16"]
    assert content["attacks"] == ["adaptive"]
    assert content["restarts"] == 3
    assert content["datasets"] == yaml.safe_load(FILE)["datasets"]
    assert "quick" not in content
    assert merged(file, quick=True)["restarts"] == 2
    assert merged(file, quick=True, settings=("restarts=4",))["restarts"] == 4


def test_attacks_and_a_suite_take_each_others_place(file):
    content = merged(file, suite="standard")
    assert content["suite"] == "standard"
    assert "attacks" not in content
    assert "suite" not in merged(datasets=("mnist-sample",), attacks=("dlg",))


def test_a_pattern_keeps_what_matches_of_the_file(file):
    content = merged(file, defenses=("prune*", "int?"), datasets=("mnist*",))
    assert content["defenses"] == ["prune(ratio=0.1)", "prune(ratio=0.5)", "int8"]
    assert content["datasets"] == [{"name": "mnist-sample", "indices": "0-3"}]


def test_indices_are_those_of_every_dataset(file):
    assert merged(file, indices="7")["datasets"] == [
        {"name": "mnist-sample", "indices": "7"},
        {"name": "fashion-mnist-sample", "indices": "7"},
    ]


def test_settings_are_read_as_in_a_file_and_reach_inner_keys(file):
    content = merged(file, settings=("training.lr=1e-2", "verdicts.leak=0.8", "model_seeds=0-2"))
    assert content["training"] == {"epochs": 3, "lr": 0.01}
    assert content["verdicts"] == {"leak": 0.8}
    assert content["model_seeds"] == "0-2"


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (
            {"defenses": ("x*",)},
            r"--defense: expected a pattern that matches some of none, prune.*, got 'x\*'",
        ),
        (
            {"datasets": ("c*",)},
            "--dataset: expected a pattern that matches some of mnist-sample, fashion-mnist",
        ),
        ({"settings": ("restarts",)}, "--set: expected KEY=VALUE, such as restarts=3, got 'restarts'"),
        ({"settings": ("=3",)}, "--set: expected KEY=VALUE"),
        ({"settings": ("restarts=[",)}, "--set: restarts: not readable as YAML at line 1"),
    ],
)
def test_what_cannot_be_is_answered_in_a_line(file, typed, text):
    with pytest.raises(UserError, match=f"^{text}"):
        merged(file, **typed)


@pytest.mark.parametrize(
    ("text", "got"),
    [("datasets:", "none"), ("datasets: mnist-sample", "'mnist-sample'"), ("defenses: [none]", "none")],
)
@pytest.mark.parametrize("typed", [{"indices": "0-4"}, {"datasets": ("mnist*",)}])
def test_a_file_without_a_list_of_datasets_is_answered_in_a_line(write, text, got, typed):
    option = "--indices" if "indices" in typed else "--dataset"
    with pytest.raises(UserError) as caught:
        merged(write("other.yaml", text), **typed)
    text = f"{option}: expected a file with a list of one dataset or more, got {got}"
    assert caught.value.problems == [text]


def test_the_command_needs_no_file_and_writes_one_that_gives_the_run_again(tmp_path, capsys):
    typed = ["--dataset", "mnist-sample", "--indices", "0-1", "--attack", "dlg(steps=1)", "--defense", "int8"]
    typed += ["--model", "mlp(hidden=[16])"]
    assert inside(tmp_path, "sweep", *typed, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("runs/mnist-sample.yaml: 4 trials = 2 images x 2 defenses")
    assert not (tmp_path / "runs").exists()
    assert inside(tmp_path, "sweep", *typed, "--executor", "inline") == 0
    rows = pd.read_csv(tmp_path / "runs/mnist-sample/trials.csv")
    assert len(rows) == 4
    again = ["sweep", "runs/mnist-sample.yaml", "--executor", "inline"]
    assert inside(tmp_path, *again) == 0
    assert "4 trials are there already, 0 to run" in capsys.readouterr().out
    assert inside(tmp_path, *again, "--set", "restarts=2", "--out", "runs/mnist-sample") == 2
    assert "--out: expected another folder than runs/mnist-sample" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed",
    [
        ["sweep", "--dataset", "mnist-sample"],
        ["compare", "int8"],
    ],
)
def test_a_folder_without_a_name_is_refused(tmp_path, capsys, typed):
    assert inside(tmp_path, *typed, "--out", ".") == 2
    assert capsys.readouterr().err == "--out: expected the name of a folder, got '.'\n"


def test_part_of_a_file_runs_into_the_folder_of_the_whole(write, tmp_path, capsys):
    write("few.yaml", FEW)
    assert inside(tmp_path, "sweep", "few.yaml", "--defense", "none", "--executor", "inline") == 0
    assert inside(tmp_path, "sweep", "few.yaml", "--executor", "inline") == 0
    assert "runs/few: 1 trial is there already, 1 to run" in capsys.readouterr().out


def test_problems_name_the_file_that_would_be_written(tmp_path, capsys):
    assert inside(tmp_path, "sweep") == 2
    assert capsys.readouterr().err.startswith("expected a sweep FILE, or --dataset NAME")
    assert inside(tmp_path, "sweep", "--dataset", "mnist-sample", "--set", "restart=2", "--dry-run") == 2
    assert capsys.readouterr().err.startswith("runs/mnist-sample.yaml: unknown key 'restart'")
    assert not Path(tmp_path / "runs").exists()


def test_a_part_of_a_run_runs_again(write, tmp_path, capsys):
    write("few.yaml", FEW)
    command = ["sweep", "few.yaml", "--executor", "inline"]
    assert inside(tmp_path, *command) == 0
    before = pd.read_csv(tmp_path / "runs/few/trials.csv")
    capsys.readouterr()
    assert inside(tmp_path, *command, "--force", "int*", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "runs/few: 1 trial is there already, 1 to run" in output
    assert "\n1 trial would run; nothing was written" in output
    assert inside(tmp_path, *command, "--force", "int*") == 0
    assert "runs/few: 1 stored trial is removed, to be run again" in capsys.readouterr().out
    after = pd.read_csv(tmp_path / "runs/few/trials.csv")
    seconds = ["seconds", "defense_seconds"]
    pd.testing.assert_frame_equal(before.drop(columns=seconds), after.drop(columns=seconds))
    assert list(before["seconds"] == after["seconds"]) == [each == "none" for each in after["defense"]]
    traces = pd.read_parquet(tmp_path / "runs/few/traces.parquet")
    assert sorted(traces["key"]) == sorted(after["key"])  # one each
    assert inside(tmp_path, *command, "--force", "x*", "--dry-run") == 2
    text = "--force: expected a pattern of a name in the sweep, such as 'prune*', got 'x*', which matches"
    assert capsys.readouterr().err == f"{text} none\n"
    assert len(pd.read_csv(tmp_path / "runs/few/trials.csv")) == 2
