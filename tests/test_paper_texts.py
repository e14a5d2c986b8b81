"""The paper's report on texts, from small runs of the same shape: each number again in plain pandas."""

import numpy as np
import pytest
from running import ROOT, inside

import leakbench
from leakbench.reports.paper import texts
from leakbench.reports.paper.texts import defended, draw_steps, matched, text_lines
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TRAININGS

SMALL = "bert(depth=1, hidden=32, heads=2"
DATA = "datasets: [{name: sotu-sample, indices: 0-2}]\n"
DEFENSES = "defenses: [none, float16, gaussian(variance=0.5)]\n"
FILES = {
    "text_steps": DATA + f"models: ['{SMALL}, task=mlm)', '{SMALL})']\ndefenses: [none]\n"
    "attacks: [dlg-text(steps=12)]\nsnapshot_every: 10\n",
    "text": DATA + f"models: ['{SMALL})']\n{DEFENSES}attacks: [rows, bag]\n",
    "text_accuracy": f"models: ['{SMALL})']\n{DEFENSES}training:\n"
    "  train: {name: sotu-2k, indices: 200-239}\n  test: {name: sotu-2k, indices: 1800-1819}\n"
    "  epochs: 1\n  optimizer: adam\n  lr: 0.001\n  seeds: 0-1\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """{name: its store} of a run of every file."""
    place = tmp_path_factory.mktemp("texts")
    for name, content in FILES.items():
        (place / f"{name}.yaml").write_text(content)
        verb = ["utility", "--jobs", "1"] if name == "text_accuracy" else ["sweep", "--executor", "inline"]
        assert inside(place, *verb, f"{name}.yaml", "--out", name) == 0, name
    return {name: Store.existing(place / name) for name in FILES}


def test_each_line_of_the_attack_again(stores):
    rows = stores["text_steps"].rows()
    lines = matched(rows).set_index("model")
    for model, own in rows.groupby("model"):
        assert lines.loc[model, "texts"] == 3
        assert lines.loc[model, "exact"] == own["exact"].sum()
        assert lines.loc[model, "lowest"] == own["token_accuracy"].min()
        assert lines.loc[model, "token_accuracy"] == own["token_accuracy"].median()
        assert lines.loc[model, "rouge_l_low"] <= own["rouge_l"].median() <= lines.loc[model, "rouge_l_high"]


def test_what_defenses_leave_beside_what_they_cost(stores):
    rows, trainings = stores["text"].rows(), stores["text_accuracy"].rows(TRAININGS)
    lines = defended(rows, trainings, stores["text"].scale).set_index("defense")
    best = rows.groupby(["defense", "index"])["rouge_l"].max().unstack("defense")
    works = best["none"] >= 0.9
    assert works.all()  # otherwise the next lines compare nothing
    for defense in ("none", "float16", "gaussian(variance=0.5)"):
        own = trainings[trainings["defense"] == defense]
        assert lines.loc[defense, "accuracy"] == pytest.approx(own["accuracy"].mean())
        assert lines.loc[defense, "rouge_l"] == best.loc[works, defense].median()
        assert lines.loc[defense, "leaked"] == (best.loc[works, defense] >= 0.9).sum()
    assert lines.loc["gaussian(variance=0.5)", "verdict"] == "no leak"


def test_a_defense_that_was_not_trained_has_no_accuracy(stores):
    rows, trainings = stores["text"].rows(), stores["text_accuracy"].rows(TRAININGS)
    some, scale = trainings[trainings["defense"] != "float16"], stores["text"].scale
    assert np.isnan(defended(rows, some, scale).set_index("defense").loc["float16", "accuracy"])
    page = "\n".join(text_lines(stores["text_steps"].rows(), rows, some, scale))
    (line,) = [each for each in page.splitlines() if each.startswith("| float16 ")]
    assert line.endswith("| - | - |")


def test_the_figure_has_the_steps_of_the_paper_and_the_last_one(stores, monkeypatch):
    drawn = []
    draw = texts.draw_groups
    monkeypatch.setattr(
        texts, "draw_groups", lambda title, groups: drawn.extend(groups) or draw(title, groups)
    )
    store = stores["text_steps"]
    figure = draw_steps(store, store.rows())
    assert figure.get_figheight() > 1
    first = store.rows().sort_values("index").iloc[0]
    trace = store.traces([first["key"]])[first["key"]]
    assert [line.name for line in drawn[0].lines] == ["step 0", "step 10", "step 12"]
    assert [line.found for line in drawn[0].lines] == [
        trace.snapshots[0][0], trace.snapshots[10][0], trace.reconstruction[0],
    ]  # fmt: skip
    assert len(drawn) == 3


def test_the_files_have_the_same_defenses():
    attacked, trained = (
        read_sweep(ROOT / "sweeps" / "paper" / f"{name}.yaml")[0] for name in ("text", "text_accuracy")
    )
    assert [each.value for each in attacked.defenses] == [each.value for each in trained.defenses]


def test_without_the_packages_texts_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    runs = []
    for verb in ("sweep.sweep_file", "utility.train_file"):
        monkeypatch.setattr(f"leakbench.commands.{verb}", lambda file, *_a, **_k: runs.append(file.stem) or 0)
    monkeypatch.setattr("leakbench.reports.paper.report.write_report", lambda folder: [folder / "report.md"])
    assert leakbench.main(["paper", "--quick"]) == 0
    assert runs
    assert not any(name.startswith("text") for name in runs)
    assert "texts    left out: they need pip install -e '.[text]'" in capsys.readouterr().out
