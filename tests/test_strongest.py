"""Several attacks on the same victims: the strongest decides."""

import re

import pandas as pd
import pytest
from made_up import settings, store, table

from leakbench.bench.attacks import ATTACKS, SUITES
from leakbench.bench.verdicts import Scale
from leakbench.core.errors import UserError
from leakbench.reports.figures import write_figures
from leakbench.reports.flags import flags
from leakbench.reports.page import write_page
from leakbench.reports.run import Run
from leakbench.reports.selection import kept_starts, strongest
from leakbench.reports.summary import by_attack, summarize
from leakbench.reports.tables import terminal_tables
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.grid import trials
from leakbench.sweeps.spec import Changes
from leakbench.sweeps.sweep_file import read_sweep

PRUNE = "prune(ratio=0.5)"
WEAK = table(  # (defense, index, start, objective, ssim)
    ("none", 0, 0, 0.1, 0.95), ("none", 1, 0, 0.1, 0.3), ("none", 2, 0, 9.0, 0.2),
    (PRUNE, 0, 0, 5.0, 0.05), (PRUNE, 1, 0, 5.0, 0.1), (PRUNE, 2, 0, None, None),
)  # fmt: skip
STRONG = table(  # its objectives are far smaller, and cannot be compared with the other's
    ("none", 0, 0, 1e-9, 0.93), ("none", 1, 0, 1e-9, 0.97), ("none", 1, 1, 1e-8, 0.99),
    ("none", 2, 0, 1e-9, 0.4), (PRUNE, 0, 0, 1e-9, 0.92), (PRUNE, 1, 0, 1e-9, 0.04), (PRUNE, 2, 0, 1e-9, 0.1),
)  # fmt: skip
ROWS = pd.concat(
    [WEAK.assign(attack="dlg"), STRONG.assign(attack="adaptive", threat="defense")], ignore_index=True
)
ROWS["key"] = [f"{number}" for number in range(len(ROWS))]


def test_for_each_victim_and_defense_the_attack_of_highest_score_counts():
    """By the start that its own attacker keeps: not by the better one that it threw away."""
    best = strongest(ROWS, Scale()).set_index(["defense", "index"])
    assert best["attack"].to_dict() == {
        ("none", 0): "dlg", ("none", 1): "adaptive", ("none", 2): "adaptive",
        (PRUNE, 0): "adaptive", (PRUNE, 1): "dlg", (PRUNE, 2): "adaptive",
    }  # fmt: skip
    assert best.loc[("none", 1), "ssim"] == 0.97


def test_an_image_is_attackable_if_any_attack_leaks_it():
    best = strongest(ROWS, Scale()).set_index(["defense", "index"])
    assert best.loc[PRUNE, "attackable"].to_dict() == {0: True, 1: True, 2: False}


def test_the_line_of_a_defense_is_of_the_strongest_and_says_who_that_was():
    lines = summarize(ROWS, Scale()).set_index("defense")
    assert (lines.loc["none", "leaked"], lines.loc["none", "images"]) == (2, 3)
    assert lines.loc["none", "by"] == "adaptive 2, dlg 1"
    assert (lines.loc[PRUNE, "leaked"], lines.loc[PRUNE, "images"]) == (1, 2)
    assert lines.loc[PRUNE, "ssim"] == pytest.approx((0.92 + 0.1) / 2)
    assert lines.loc[PRUNE, "threat"] == "defense"
    assert lines.loc[PRUNE, "trials"] == 6
    assert lines.loc[PRUNE, "failed"] == 1


def test_every_number_again_with_plain_pandas():
    kept = ROWS.dropna(subset=["ssim"]).sort_values("objective")
    kept = kept.drop_duplicates(["attack", "index", "defense"])
    best = kept.groupby(["defense", "index"])["ssim"].max().unstack(0)
    open_to_any = best.index[best["none"] >= 0.9]
    line = summarize(ROWS, Scale()).set_index("defense").loc[PRUNE]
    assert line["images"] == len(open_to_any)
    assert line["ssim"] == pytest.approx(best.loc[open_to_any, PRUNE].median())
    assert line["leaked"] == int((best.loc[open_to_any, PRUNE] >= 0.9).sum())
    alone = kept.groupby(["defense", "attack"])["ssim"].median().unstack()
    cells = settings(ROWS)[0].alone
    assert cells["adaptive"].to_dict() == alone["adaptive"].map("{:.3f}".format).to_dict()
    assert cells["dlg"].to_dict() == {"none": "0.300", PRUNE: "0.075 (2 of 3)"}  # one of its trials failed


def test_one_attack_alone_is_what_it_was():
    own = ROWS[ROWS["attack"] == "dlg"]
    alone = by_attack(ROWS, Scale())
    assert set(alone["attack"]) == {"dlg", "adaptive"}
    expected = summarize(own, Scale())
    pd.testing.assert_frame_equal(
        alone[alone["attack"] == "dlg"].drop(columns="attack").reset_index(drop=True), expected
    )
    assert expected.set_index("defense").loc["none", "by"] == "dlg 3"


def test_equal_scores_go_to_the_first_and_not_to_chance():
    even = ROWS.assign(ssim=0.5, score=0.5).dropna(subset=["objective"])
    assert set(strongest(even, Scale())["attack"]) == {"dlg", "adaptive"}  # dlg has no result for one
    assert set(strongest(even[even["index"] < 2], Scale())["attack"]) == {"dlg"}


def test_the_terminal_says_what_each_made_of_it_and_who_decided():
    alone, board = terminal_tables(settings(ROWS))
    assert [column.header for column in alone.columns] == ["defense", "dlg", "adaptive"]
    assert [column.header for column in board.columns] == [
        "defense", "leaked", "95 % CI", "by", "SSIM", "label", "verdict",
    ]  # fmt: skip
    assert board.title == "cifar10-sample · lenet · fedsgd · dlg, adaptive: the strongest"
    by = dict(zip(board.columns[0].cells, board.columns[3].cells, strict=True))
    assert by == {"none": "adaptive +", PRUNE: "adaptive +"}
    why = "results for only 3 images; the others had leaked to an earlier attack, or their trials failed or"
    assert why in " ".join(str(alone.caption).split())  # here one of dlg's trials failed
    (single,) = terminal_tables(settings(ROWS[ROWS["attack"] == "dlg"]))
    assert [column.header for column in single.columns][3] == "1 start"


def test_only_a_defense_without_an_account_is_flagged():
    untold = ROWS.assign(threat=ROWS["threat"].mask(ROWS["defense"] == PRUNE, "nothing"))
    raised = [flags(rows, Scale(), lambda _: {}) for rows in (untold, ROWS)]
    found = [[each.defense for each in own if each.flag == "NOT_ADAPTIVE"] for own in raised]
    assert found == [[PRUNE], []]


def test_page_and_figures_show_the_strongest_and_every_attack(tmp_path):
    made = Run(store(tmp_path / "run", ROWS))
    drawn = write_figures(made)
    names = [each.name for each in drawn]
    assert names == ["scores", "curves adaptive", "curves dlg", "strip", "film"]
    assert all(path.exists() for each in drawn for path in each.paths)
    page = write_page(made, drawn).read_text()
    assert page.count('class="setting"') == 1
    assert "knows the defense" in page
    assert "Each attack alone: the median SSIM of all images" in page
    assert "or their trials failed or have not run" in page
    found = re.findall(r'label="image \d as rebuilt by (\w+) under', page)
    assert set(found) == {"dlg", "adaptive"}
    assert len(found) == len(kept_starts(ROWS))


SWEEP = "datasets: [{name: cifar10-sample, indices: 0-1}]\ndefenses: [none, int8]\n"


def test_a_suite_stands_for_its_attacks(write, tmp_path):
    sweep = load_sweep(write("mine.yaml", SWEEP + "suite: standard\n"), tmp_path)
    assert [str(each.value) for each in sweep.attacks] == list(SUITES["standard"])
    fitting = [each for each in SUITES["standard"] if each != "linear"]  # which no LeNet is for
    listed = load_sweep(write("listed.yaml", SWEEP + f"attacks: {fitting}\n"), tmp_path)
    assert [each.key for each in trials(sweep)] == [each.key for each in trials(listed)]
    assert {str(ATTACKS.parse(each)) for each in SUITES["standard"]} == set(SUITES["standard"])


def test_a_quick_run_may_have_attacks_in_place_of_a_suite(write, tmp_path):
    file = write("mine.yaml", SWEEP + "suite: standard\nquick: {attacks: [dlg(steps=2)]}\n")
    assert len(load_sweep(file, tmp_path).attacks) == len(SUITES["standard"])
    quick = load_sweep(file, tmp_path, changes=Changes(quick=True))
    assert [str(each.value) for each in quick.attacks] == ["dlg(steps=2)"]
    assert quick.exhaustive


def test_attacks_next_to_a_suite_come_after_its_own(write, tmp_path):
    sweep = load_sweep(
        write("mine.yaml", SWEEP + "suite: standard\nattacks: [dlg(steps=2), unrolled]\n"), tmp_path
    )
    assert [str(each.value) for each in sweep.attacks][-2:] == ["dlg(steps=2)", "unrolled"]
    assert any(notice.startswith("unrolled is skipped on ") for notice in sweep.notices)
    assert not sweep.exhaustive


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("suite: standart", "suite: unknown suite 'standart'; did you mean 'standard'? known: standard"),
        ("suite: [standard]", "suite: unknown suite \"['standard']\""),
        ("suite: standard\nattacks: [linear]", "attacks[0]: linear is already in the suite standard"),
    ],
)
def test_a_suite_that_is_none_is_a_line(write, tmp_path, line, problem):
    file = write("mine.yaml", SWEEP + line + "\n")
    assert any(each.startswith(problem) for each in read_sweep(file)[1])
    with pytest.raises(UserError):
        load_sweep(file, tmp_path)
