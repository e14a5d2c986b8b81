"""A suite skips cases to which its attacks do not apply; for attacks that are listed that is an error."""

from collections import Counter

import pytest

import leakbench
from leakbench.core.errors import UserError
from leakbench.reports.status import status
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.grid import trials
from leakbench.sweeps.need import Need, Needs, Score
from leakbench.sweeps.plan import plan
from leakbench.sweeps.store import Store

MODELS = "datasets: [{name: mnist-sample, indices: 0-1}]\nmodels: [lenet, 'mlp(hidden=[16])']\n"
SUITE = MODELS + "defenses: [none, int8]\nsuite: standard\n"
FIRST_LAYER = "expected a model whose first layer is an nn.Linear with a bias, on all pixels"
LAYERED = """
from dataclasses import dataclass
from torch import nn
from leakbench import Defense
@dataclass(frozen=True)
class Pooled(Defense):
    def change_model(self, network):
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), network)
"""


def meetings(sweep):
    return {(str(each.attack), str(each.model), str(each.defense)) for each in trials(sweep)}


def test_a_suite_has_no_trials_of_what_an_attack_is_not_for(write, tmp_path):
    sweep = load_sweep(write("mine.yaml", SUITE), tmp_path)
    assert {str(attack) for attack, model, _ in meetings(sweep) if model == "lenet"} == {
        "recursive", "adaptive", "hybrid", "cosine", "cosine(optimizer=adam)"
    }  # fmt: skip
    assert ("linear", "mlp(hidden=[16])", "int8") in meetings(sweep)
    assert sweep.notices == (f"linear is skipped on lenet: {FIRST_LAYER}",)
    assert len(sweep) == len(list(trials(sweep))) == 2 * 2 * (6 + 5)
    expected = "2 images x 2 models x 6 attacks x 2 defenses, less 4 whose attack does not apply"
    assert sweep.describe() == f"44 trials at most = {expected}"


def test_of_listed_attacks_it_is_a_mistake(write, tmp_path):
    text = SUITE.replace("suite: standard", "attacks: [dlg, linear, recursive]")
    protocols = "protocols: [fedsgd, {name: fedsgd, batch_size: 2}]\n"
    with pytest.raises(UserError) as error:
        load_sweep(write("mine.yaml", text + protocols), tmp_path)
    lines = [line.partition(": ")[2] for line in error.value.problems]
    one = "expected a gradient of one image, got 2"
    assert set(lines) == {
        f"attacks[1]: linear on lenet and mnist-sample: {FIRST_LAYER}",
        "attacks[1]: linear on mlp(hidden=[16]) and mnist-sample: expected a ReLU after the first layer, "
        "whose zeros separate several images",
        f"attacks[2]: recursive on lenet and mnist-sample: {one}",
        f"attacks[2]: recursive on mlp(hidden=[16]) and mnist-sample: {one}",
    }


def test_layers_that_a_defense_adds_count(write, tmp_path):
    path = write("pooled.py", LAYERED)
    text = SUITE.replace("int8", f"'{path}:Pooled'")
    sweep = load_sweep(write("mine.yaml", text), tmp_path)
    attacks = {attack for attack, _, defense in meetings(sweep) if defense.endswith("Pooled")}
    assert attacks == {"adaptive", "cosine", "cosine(optimizer=adam)"}
    (notice,) = [each for each in sweep.notices if each.startswith("recursive is skipped on lenet")]
    assert notice.startswith(f"recursive is skipped on lenet with {path}:Pooled: expected layers one after")
    assert len(sweep) == len(list(trials(sweep)))


def test_trials_are_counted_where_a_dataset_is_named_twice(write, tmp_path):
    twice = "[{name: mnist-sample, indices: 0}, {name: mnist-sample, indices: 1-2}]"
    sweep = load_sweep(
        write("mine.yaml", f"datasets: {twice}\nmodels: [lenet]\ndefenses: [none]\nsuite: standard\n"),
        tmp_path,
    )
    assert len(sweep) == len(list(trials(sweep))) == 3 * 5
    assert sweep.left_out == 3  # `linear` on each image


def test_status_counts_the_trials_of_each_defense(write, tmp_path):
    path = write("pooled.py", LAYERED)
    sweep = load_sweep(write("mine.yaml", SUITE.replace("int8", f"'{path}:Pooled'")), tmp_path)
    counted = Counter(str(each.defense) for each in trials(sweep))
    assert sweep.by_defense == counted
    *_, table = status(Store.open_for(tmp_path / "run", sweep))
    names, of = (list(table.columns[place].cells) for place in (0, 2))
    assert dict(zip(names, map(int, of), strict=True)) == counted


def test_nothing_waits_for_an_attack_that_is_skipped(write, tmp_path):
    """On a LeNet `recursive` is the first, on a fully connected network `linear` is."""
    sweep = load_sweep(write("mine.yaml", SUITE), tmp_path)
    due = {(str(each.attack), str(each.model)) for each in plan(sweep, {})}
    assert due == {("recursive", "lenet"), ("linear", "mlp(hidden=[16])")}
    first = next(each for each in trials(sweep) if str(each.attack) == "recursive")
    adaptive = next(
        each
        for each in trials(sweep)
        if str(each.attack) == "adaptive" and str(each.model) == "lenet" and each.index == first.index
    )
    for ssim, need in ((0.95, Need.SETTLED), (0.5, Need.DUE)):
        assert Needs(sweep, {first.key}, {first.key: Score(None, ssim)}).of(adaptive) is need


def test_a_run_of_a_suite_says_what_is_skipped(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write("mine.yaml", SUITE.replace("lenet, ", "").replace("none, int8", "none"))
    assert leakbench.main(["sweep", str(file), "--no-figures", "--executor", "inline"]) == 0
    text = capsys.readouterr().out
    assert "linear" in text
    assert "2/2" in text
    assert leakbench.main(["sweep", str(file), "--dry-run"]) == 0
    assert "0 trials would run" in capsys.readouterr().out
