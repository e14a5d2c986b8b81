"""What changed between two runs: pair by pair, beyond chance, with an exit code for CI."""

import numpy as np
import pandas as pd
import pytest
from made_up import store, table
from test_comparison import accuracies

import leakbench
from leakbench import commands
from leakbench.bench.verdicts import Scale
from leakbench.reports.difference import Change, conditions, differences

LOW = [0.31, 0.32, 0.33, 0.34, 0.35, 0.36]
HIGH = [0.61, 0.66, 0.65, 0.70, 0.69, 0.71]
NO_TRAININGS = (accuracies(), accuracies())


def attacks(ssims, undefended=0.95):
    cells = [("none", index, 0, 0.0, undefended) for index in range(len(ssims))]
    cells += [("int8", index, 0, 0.1 if ssim is not None else None, ssim) for index, ssim in enumerate(ssims)]
    return table(*cells)


def change(before, after, defense="int8"):
    (found,) = [
        each for each in differences((before, after), NO_TRAININGS, Scale()) if each.defense == defense
    ]
    return found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (LOW, HIGH, Change.WORSE),
        (HIGH, LOW, Change.BETTER),
        (LOW, LOW, Change.EQUAL),
        (LOW, LOW[::-1], Change.UNCERTAIN),
        ([0.01] * 6, [0.02] * 6, Change.UNCERTAIN),  # neither shows anything
        (LOW[:5], HIGH[:5], Change.TOO_FEW),
        (LOW, [*LOW[:5], None], Change.FAILED),
        ([*LOW[:5], None], LOW, Change.EQUAL),  # as far as both have it
    ],
    ids=str,
)
def test_what_became_of_a_defense(before, after, expected):
    assert change(attacks(before), attacks(after)).change == expected


def test_runs_of_two_machines_are_distinguished():
    rows = attacks(LOW)
    assert conditions((rows, accuracies())) == "cpu, AVX2, torch 2"
    mixed = rows.assign(hardware=["AVX2", "AVX512"] * 6, device="cuda:1")
    assert conditions((mixed, accuracies())) == "cuda, AVX2, torch 2 and cuda, AVX512, torch 2"
    failed = attacks([None] * 6).assign(hardware="AVX512")
    assert conditions((failed[failed["status"] == "error"], accuracies())) == ""


def test_the_numbers_are_of_the_pairs():
    found = change(attacks(LOW), attacks(HIGH))
    pairs = np.array(HIGH) - np.array(LOW)
    assert (found.pairs, found.before, found.after) == (6, pytest.approx(0.335), pytest.approx(0.675))
    assert found.difference == pytest.approx(np.median(pairs))
    assert pairs.min() <= found.interval.low <= found.interval.high <= pairs.max()


def test_an_undefended_attack_that_rebuilds_less_is_the_worse():
    before, after = (attacks(LOW, undefended) for undefended in (0.99, 0.93))
    assert change(before, after, "none").change == Change.WORSE
    assert change(after, before, "none").change == Change.BETTER


def test_images_that_do_not_leak_undefended_in_both_do_not_count():
    before, after = attacks(LOW), attacks(HIGH)
    after.loc[(after["defense"] == "none") & (after["index"] == 0), "ssim"] = 0.1
    assert change(before, after).pairs == 5


def test_a_defense_of_one_run_is_said_to_be_missing():
    before = attacks(LOW)
    found = change(before, before[before["defense"] == "none"])
    assert (found.change, found.pairs) == (Change.MISSING, 0)


def trained(*values):
    rows = [accuracies(prune_1=value).assign(seed=seed) for seed, value in enumerate(values)]
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], Change.WORSE),
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], Change.BETTER),
        ([0.90, 0.91, 0.92], [0.92, 0.90, 0.91], Change.UNCERTAIN),
        ([0.90, 0.91], [0.90, 0.91], Change.EQUAL),
        ([0.90], [0.80], Change.TOO_FEW),
    ],
)
def test_what_became_of_its_accuracy(before, after, expected):
    nothing = table().head(0)
    (found,) = differences((nothing, nothing), (trained(*before), trained(*after)), Scale())
    assert (found.quantity, found.change, found.pairs) == ("accuracy", expected, len(before))
    assert found.difference == pytest.approx(np.mean(after) - np.mean(before))


@pytest.fixture
def runs(tmp_path):
    return {
        name: store(tmp_path / name, attacks(ssims)).folder for name, ssims in (("low", LOW), ("high", HIGH))
    }


def test_the_exit_code_tells_whether_something_got_worse(runs, capsys):
    low, high = str(runs["low"]), str(runs["high"])
    assert leakbench.main(["diff", low, high]) == commands.TRIALS_FAILED
    output = capsys.readouterr().out
    assert "cifar10-sample · lenet · fedsgd: SSIM" in output
    assert "1 of 2 got worse" in output
    assert leakbench.main(["diff", high, low]) == 0
    assert "nothing got worse\n" in capsys.readouterr().out


def test_undecided_changes_are_counted(tmp_path, capsys):
    few = [
        str(store(tmp_path / name, attacks(ssims[:3])).folder) for name, ssims in (("a", LOW), ("b", HIGH))
    ]
    assert leakbench.main(["diff", *few]) == 0
    assert capsys.readouterr().out.endswith("nothing got worse; 1 of 2 too few to tell\n")


def test_a_folder_that_is_no_run_is_refused(runs, tmp_path, capsys):
    assert leakbench.main(["diff", str(runs["low"]), str(tmp_path / "no")]) == commands.USER_ERROR
    assert "no: expected the folder of a run, found no sweep.json in it" in capsys.readouterr().err
