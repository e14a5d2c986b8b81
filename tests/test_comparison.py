"""New defenses compared with known ones: who is ahead, what is run for it, and what is not run twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_up import table

import leakbench
from leakbench import commands
from leakbench.bench.attacks import SUITES
from leakbench.bench.attacks.suites import OF_TEXTS
from leakbench.bench.datasets import DATASETS, Images, open_dataset
from leakbench.bench.verdicts import Scale
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES
from leakbench.reports.comparison import Outcome, standings
from leakbench.reports.leaderboard import describe_trainings
from leakbench.reports.page.content import OUTCOME_TEXTS
from leakbench.reports.selection import strongest
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.comparison import BUDGETS, Budget, Comparison, examples, write_sweep
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS
from leakbench.sweeps.training_checks import check_training

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from leakbench import Defense

@dataclass(frozen=True)
class Mine(Defense):
    factor: float = 0.5
    grid: ClassVar = {"factor": [0.5, 0.25]}

    def apply(self, gradients, generator):
        return {name: self.factor * gradient for name, gradient in gradients.items()}
"""


def attacks(**ssims):
    """Rows of images 0, 1, ... by defense, all of which leak without one; `_` replaces the settings."""
    count = max(map(len, ssims.values()))
    cells = [("none", index, 0, 0.0, 0.99) for index in range(count)]
    for name, values in ssims.items():
        cells += [(defense(name), index, 0, 0.1, ssim) for index, ssim in enumerate(values)]
    return table(*cells)


def defense(name):
    kind, _, level = name.partition("_")
    return f"{kind}(ratio=0.{level})" if level else kind


def accuracies(*changes, **values):
    """Trainings with each defense: its accuracy of one seed, or of several, that accuracy and the changes."""
    rows = [
        dict.fromkeys(TRAININGS.dtypes)
        | {
            "key": f"{name}{seed}",
            "train": "a",
            "test": "b",
            "model": "lenet",
            "protocol": "fedsgd",
            "seed": seed,
        }
        | {"recipe": "fedsgd", "defense": defense(name), "family": "x", "status": "converged", "reason": ""}
        | {"accuracy": accuracy + change, "seconds": 1.0, "device": "cpu", "hardware": "AVX2"}
        | {"torch_version": "2"}
        for name, accuracy in values.items()
        for seed, change in enumerate(changes or [0.0])
    ]
    return pd.DataFrame(rows, columns=list(TRAININGS.dtypes)).astype(TRAININGS.dtypes)


NOTHING = accuracies()


def standing(rows, trainings=NOTHING):
    (found,) = standings(rows, strongest(rows, Scale()), trainings, Scale(), ["mine"])
    return found


LOW = [0.31, 0.32, 0.33, 0.34, 0.35, 0.36]
HIGH = [0.61, 0.66, 0.65, 0.70, 0.69, 0.71]


@pytest.mark.parametrize(
    ("mine", "known", "outcome"),
    [
        (LOW, HIGH, Outcome.AHEAD),
        (HIGH, LOW, Outcome.BEHIND),
        (LOW, LOW[::-1], Outcome.EQUAL),
        (LOW[:5], HIGH[:5], Outcome.TOO_FEW),
        ([0.01] * 6, [0.02] * 6, Outcome.BOTH_HIDE),
    ],
    ids=str,
)
def test_the_images_of_both_decide(mine, known, outcome):
    assert standing(attacks(mine=mine, prune_1=known)).outcome == outcome


def test_the_rival_is_the_known_one_that_hides_most():
    found = standing(attacks(mine=LOW, prune_1=HIGH, prune_2=[0.5] * 6))
    assert (found.rival, found.rival_median) == ("prune(ratio=0.2)", 0.5)
    differences = np.array(LOW) - 0.5
    assert found.difference == pytest.approx(np.median(differences))
    assert differences.min() <= found.interval.low <= found.difference <= found.interval.high
    assert (found.images, found.median) == (6, pytest.approx(0.335))


SEEDS = (-0.01, 0.0, 0.01)  # by which accuracies differ, the same for every defense


def test_a_known_one_that_costs_more_accuracy_is_no_rival():
    rows = attacks(mine=LOW, prune_1=HIGH, prune_2=[0.1] * 6)
    costly = standing(rows, accuracies(*SEEDS, mine=0.9, prune_1=0.89, prune_2=0.87))
    assert (costly.rival, costly.outcome) == ("prune(ratio=0.1)", Outcome.AHEAD)
    cheap = standing(rows, accuracies(*SEEDS, mine=0.9, prune_1=0.89, prune_2=0.881))
    assert (cheap.rival, cheap.outcome) == ("prune(ratio=0.2)", Outcome.BEHIND)
    alone = standing(rows, accuracies(*SEEDS, mine=0.9, prune_1=0.5, prune_2=0.5))
    assert (alone.rival, alone.outcome) == ("", Outcome.ALONE)
    line = "mine: accuracy 90.0 ± 2.5 %, SSIM 0.335; no known defense is as accurate"
    assert alone.describe({}) == line


def test_one_seed_excludes_no_rival_and_costs_nothing():
    """Gaussian noise at -7.8 points and Laplacian noise of the same strength at 0.0 were chance."""
    rows = attacks(mine=LOW, prune_1=HIGH, prune_2=[0.1] * 6)
    assert standing(rows, accuracies(mine=0.9, prune_1=0.9, prune_2=0.82)).rival == "prune(ratio=0.2)"
    hidden = attacks(mine=[0.01] * 6, prune_1=[0.03] * 6)
    found = standing(hidden, accuracies(mine=0.8, prune_1=0.9))
    assert (found.rival, found.outcome) == ("prune(ratio=0.1)", Outcome.BOTH_HIDE)


def test_seeds_that_disagree_tell_no_difference():
    known, mine = accuracies(-0.05, 0.0, 0.05, prune_1=0.85), accuracies(0.05, 0.0, -0.05, mine=0.9)
    rows = attacks(mine=LOW, prune_1=HIGH)
    assert standing(rows, pd.concat([known, mine])).rival == "prune(ratio=0.1)"
    hidden = attacks(mine=[0.01] * 6, prune_1=[0.03] * 6)
    better = accuracies(-0.05, 0.0, 0.05, prune_1=0.95)
    assert standing(hidden, pd.concat([better, mine])).outcome == Outcome.BOTH_HIDE


def test_where_neither_leaks_accuracy_decides():
    rows = attacks(mine=[0.01] * 6, prune_1=[0.03] * 6, prune_2=[0.02] * 6, prune_3=HIGH)
    found = standing(rows, accuracies(*SEEDS, mine=0.8, prune_1=0.9, prune_2=0.79, prune_3=0.95))
    assert (found.rival, found.outcome) == ("prune(ratio=0.1)", Outcome.COSTS_MORE)
    assert "10.0 points of accuracy, 95 % CI 10.0 to 10.0" in found.describe({})
    disagreeing = pd.concat(
        [accuracies(-0.01, 0.02, 0.0, mine=0.89), accuracies(*SEEDS, prune_1=0.9, prune_2=0.88)]
    )
    found = standing(rows, disagreeing)
    assert (found.rival, found.outcome) == ("prune(ratio=0.1)", Outcome.BOTH_HIDE)


def test_a_label_that_leaks_is_said_though_the_image_is_hidden():
    rows = attacks(mine=[0.01] * 6, prune_1=[0.03] * 6)
    assert "label" not in standing(rows).describe({})
    rows.loc[rows["defense"] == "mine", "label_correct"] = True
    assert standing(rows).describe({}).endswith("; label leaks in 6 of 6")


def test_every_budget_trains_with_seeds_enough_for_an_interval():
    assert min(budget.seeds for budget in BUDGETS.values()) >= 3


def test_what_accuracies_are_of_is_said():
    assert describe_trainings(NOTHING) == ""
    one = accuracies(mine=0.9)
    assert describe_trainings(one).endswith(", one seed: a few points may be chance.")
    two = pd.concat([one, one.assign(seed=1)])
    assert describe_trainings(two).endswith(", mean over 2 seeds.")


def test_images_that_do_not_leak_without_a_defense_do_not_count():
    rows = attacks(mine=[*LOW, 0.0], prune_1=[*HIGH, 0.9])
    rows.loc[(rows["defense"] == "none") & (rows["index"] == 6), "ssim"] = 0.5
    assert standing(rows).images == 6
    rows.loc[rows["defense"] == "none", "ssim"] = 0.5
    assert (
        standing(rows).describe({})
        == "mine: no image leaks without a defense, so there is nothing to compare"
    )


def test_a_defense_without_a_result_is_not_said_to_face_images_that_do_not_leak():
    rows = attacks(mine=LOW, prune_1=HIGH)
    rows.loc[rows["defense"] == "mine", ["status", "ssim", "match_loss", "objective"]] = [
        "error",
        *[None] * 3,
    ]
    text = "no result to compare on an image that leaks without a defense"
    assert standing(rows).describe({}) == f"mine: {text}"
    assert OUTCOME_TEXTS[standing(rows).outcome] == text
    rows = attacks(mine=LOW, prune_1=HIGH)  # no image has results under both
    apart = (rows["defense"] == "mine") == (rows["index"] < 3)
    assert standing(rows[apart | (rows["defense"] == "none")]).describe({}) == f"mine: {text}"


def test_a_standing_reads_as_a_sentence():
    found = standing(attacks(mine=LOW, prune_1=HIGH), accuracies(mine=0.9, prune_1=0.91))
    text = found.describe({})
    rival = "prune(ratio=0.1), accuracy 91.0 %, SSIM 0.675"
    assert text.startswith(f"mine: accuracy 90.0 %, SSIM 0.335; against {rival}: hides more (")
    assert text.endswith(", n = 6)")


def test_few_images_are_attacked_and_the_embedded_digits_trained_on():
    few = open_dataset(DATASETS.parse("cifar10-sample"), Path())
    digits = {"name": "mnist-5k", "size": 32, "grey": False}
    assert examples("cifar10-sample", few) == {
        "train": {**digits, "indices": "0-3999"},
        "test": {**digits, "indices": "4000-4999"},
    }


def test_few_texts_are_attacked_and_the_bundled_sentences_trained_on():
    few = open_dataset(DATASETS.parse("sotu-sample"), Path())
    assert examples("sotu-sample", few) == {
        "train": {"name": "sotu-2k", "indices": "0-1599"},
        "test": {"name": "sotu-2k", "indices": "1600-1999"},
    }
    many = open_dataset(DATASETS.parse("sotu-2k(label=party)"), Path())
    found = examples("sotu-2k(label=party)", many)
    assert {each["name"] for each in found.values()} == {"sotu-2k(label=party)"}
    assert (len(found["train"]["indices"]), len(found["test"]["indices"])) == (1600, 400)


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 5, 2), nn.Sigmoid(), nn.Flatten(), nn.Linear(784, 10))
"""


def test_a_network_made_for_the_attacked_images_can_be_trained(write):
    data = "cifar10-sample"
    model = f"{write('net.py', NET)}:Net"
    known = (DEFENSES.parse("prune(ratio=0.5)"),)
    content = Comparison(known, known, BUDGETS["quick"], data, model).sweep(
        open_dataset(DATASETS.parse(data), Path())
    )
    file = write("compare.yaml", "")
    write_sweep(content, file, ["compare"])
    check_training(load_sweep(file, Path()), Path())
    for part in ("train", "test"):
        del content["training"][part]["size"], content["training"][part]["grey"]
    write_sweep(content, file, ["compare"])
    with pytest.raises(UserError, match="expected a model that torch.func can train"):
        check_training(load_sweep(file, Path()), Path())


def test_a_file_that_was_written_by_hand_is_not_overwritten(write):
    file, by_hand = write("mine.yaml", ""), "defenses: [none]  # and why\n"
    write_sweep({"defenses": ["none"]}, file, ["compare"])
    write_sweep({"defenses": ["int8"]}, file, ["compare"])
    assert file.read_text() == "# written by: leakbench compare\ndefenses: [int8]\n"
    write("mine.yaml", by_hand)
    with pytest.raises(UserError, match=r"mine.yaml: expected no file or one that begins with '# written by"):
        write_sweep({"defenses": ["int8"]}, file, ["compare"])
    assert file.read_text() == by_hand


@pytest.mark.parametrize(("images", "used"), [(200, 200), (5000, 5000), (60_000, 5000)])
def test_many_images_are_trained_on_and_every_fifth_tests(images, used):
    found = examples("folder:x", Images((1, 8, 8), 2, images, tuple))
    own, others = found["train"]["indices"], found["test"]["indices"]
    assert len(own) + len(others) == len({*own, *others}) == used
    assert len(others) == used // 5
    assert max(*own, *others) >= images - images // used - 4  # to the last class of a sorted folder


@pytest.fixture
def here(tmp_path, monkeypatch, without_rehearsal):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "yours.py").write_text(MINE.replace("Mine", "Yours"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BUDGETS, "quick", Budget(examples=1, restarts=1, epochs=1, seeds=1))
    monkeypatch.setitem(SUITES, "standard", ("dlg(steps=2)",))
    monkeypatch.setattr("leakbench.reports.figures.write_figures", lambda _run: [])
    digits = {
        "train": {"name": "mnist-5k", "indices": "0-79"},
        "test": {"name": "mnist-5k", "indices": "80-99"},
    }
    monkeypatch.setattr("leakbench.sweeps.comparison.examples", lambda data, source: digits)
    return tmp_path


def compare(*arguments):
    return leakbench.main(["compare", *arguments, "--jobs", "1"])


def test_a_comparison_attacks_trains_and_reports_and_another_takes_its_rows(here, capsys):
    assert compare("mine.py", "--against", "prune") == 0
    output = capsys.readouterr().out
    assert "runs/compare-mine.yaml: 6 trials = 6 defenses" in output
    for name in ("mine.py:Mine", "mine.py:Mine(factor=0.25)"):
        assert f"  {name}: no image leaks without a defense, so there is nothing to compare\n" in output
    first = Store.existing(here / "runs/compare-mine")
    text = (here / "runs/compare-mine.yaml").read_text()
    command = "leakbench compare mine.py --budget quick --model lenet --data cifar10-sample --against prune"
    assert text.startswith(f"# written by: {command}\n")
    sweep = yaml.safe_load(text)
    assert sweep["defenses"][0] == "none"
    assert set(sweep["defenses"]) == set(first.rows()["defense"])

    assert compare("yours.py:Yours", "--against", "prune") == 0
    output = capsys.readouterr().out
    assert "runs/compare-mine: 4 rows taken from there" in output  # of attacks, and as many of trainings
    assert output.count("runs/compare-mine: 4 rows taken from there") == 2
    second = Store.existing(here / "runs/compare-yours")
    old, new = (each.rows().set_index("key") for each in (first, second))
    shared = old.index.intersection(new.index)
    assert len(shared) == 4
    pd.testing.assert_frame_equal(old.loc[shared], new.loc[shared])  # the seconds, too: they were not run
    key = shared[0]
    np.testing.assert_array_equal(first.traces([key])[key].objective, second.traces([key])[key].objective)
    assert second.originals([("cifar10-sample", 0)])


def test_a_comparison_on_texts_is_with_what_is_known_of_texts(here, capsys, monkeypatch):
    sentences = {
        "train": {"name": "sotu-2k", "indices": "0-39"},
        "test": {"name": "sotu-2k", "indices": "40-59"},
    }
    monkeypatch.setattr("leakbench.sweeps.comparison.examples", lambda data, source: sentences)
    monkeypatch.setitem(OF_TEXTS, "standard", ("rows", "bag"))
    model = ["--model", "bert(depth=1, hidden=32, heads=2)"]
    assert compare("mine.py", "--data", "sotu-sample", *model) == 0
    output = capsys.readouterr().out
    assert "mine.py:Mine: accuracy " in output
    assert ", ROUGE-L 1.000" in output
    sweep = yaml.safe_load((here / "runs/compare-mine.yaml").read_text())
    assert sweep["defenses"][:5] == [
        "none", "gaussian(relative=0.1)", "gaussian(relative=1.0)",
        "prune(ratio=0.9, count=nonzero)", "prune(ratio=0.99, count=nonzero)",
    ]  # fmt: skip
    about = {key: sweep["training"][key] for key in ("epochs", "clients", "batch_size", "optimizer", "lr")}
    assert about == {"epochs": 1, "clients": 2, "batch_size": 10, "optimizer": "adam", "lr": 0.001}
    page = (here / "runs/compare-mine/report.html").read_text()
    assert "ROUGE-L" in page
    assert "SSIM" not in page


def change_column(folder, column, value):
    """In the only row of a run."""
    (part,) = (folder / "trials.parquet").glob("*.parquet")
    rows = pq.read_table(part)
    place = rows.schema.get_field_index(column)
    pq.write_table(rows.set_column(place, rows.schema.field(place), pa.array([value])), part)


@pytest.mark.parametrize(("column", "value"), [("torch_version", "1.0"), ("hardware", "AVX99")])
def test_rows_of_other_versions_and_machines_are_not_taken(here, capsys, column, value):
    file = here / "small.yaml"
    file.write_text(
        "datasets: [mnist-sample]\nmodels: ['mlp(hidden=[16])']\ndefenses: [none]\nattacks: [dlg(steps=1)]\n"
    )
    run = ["sweep", "small.yaml", "--no-figures", "--executor", "inline", "--out"]
    assert leakbench.main([*run, "old"]) == 0
    change_column(here / "old", column, value)
    assert leakbench.main([*run, "new", "--reuse", "old"]) == 0
    assert "taken" not in capsys.readouterr().out
    assert leakbench.main([*run, "newer", "--reuse", "old", "--reuse", "new"]) == 0
    assert "new: 1 row taken from there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nope.py:Mine"], "nope.py:Mine: no file 'nope.py' (looked in "),
        (["mine.py", "--against", "prun"], "--against: unknown defense 'prun'; did you mean 'prune'?"),
        (["mine.py", "--data", "cifar"], "--data: unknown dataset 'cifar'; did you mean 'cifar10'?"),
        (
            ["mine.py", "--data", "folder:none"],
            "--data: path: expected a folder of pictures, found none at 'none'",
        ),
        (["mine.py", "--model", "lnet"], "unknown model 'lnet'; did you mean 'lenet'?"),
        (
            ["mine.py", "--data", "sotu-sample", "--model", "lenet"],
            "expected a model of texts, got one of im",
        ),
        (["mine.py", "--model", "bert"], "bert on cifar10-sample: expected a model of images, got one of"),
        (
            ["mine.py", "--against", "int8", "--against", "prune(ratio=2, scope=global)"],
            "--against: prune(ratio=2, scope=global): ratio: expected a number",
        ),
    ],
)
def test_wrong_arguments_are_explained(here, capsys, arguments, text):
    assert compare(*arguments) == commands.USER_ERROR
    assert text in capsys.readouterr().err


def test_a_run_to_reuse_that_is_none_is_refused(here, capsys):
    (here / "small.yaml").write_text("datasets: [mnist-sample]\ndefenses: [none]\nattacks: [dlg(steps=1)]\n")
    assert leakbench.main(["sweep", "small.yaml", "--reuse", "nowhere"]) == commands.USER_ERROR
    assert "nowhere: expected the folder of a run, found no sweep.json in it" in capsys.readouterr().err
