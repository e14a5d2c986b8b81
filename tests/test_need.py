"""A victim that has leaked is not attacked again: which trials this saves, and that nothing else changes."""

import io

import pandas as pd
import pytest
from made_up import settings, table
from rich.console import Console
from running import inside, stored

from leakbench.bench.attacks import SUITES
from leakbench.reports.figures import write_figures
from leakbench.reports.page import write_page
from leakbench.reports.run import Run
from leakbench.reports.selection import kept_starts, strongest
from leakbench.reports.status import status
from leakbench.reports.summary import summarize
from leakbench.sweeps.grid import trials
from leakbench.sweeps.need import Need, Needs, Score, leading
from leakbench.sweeps.plan import plan
from leakbench.sweeps.spec import Changes
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

FIRST, SECOND = "dlg(steps=2)", "dlg(steps=3)"
TWO = """
datasets: [cifar10-sample]
defenses: [none, int8]
attacks: [%s, %s]
restarts: 2
exhaustive: false
""" % (FIRST, SECOND)  # noqa: UP031  # braces are YAML's
SWEEP = """
datasets: [{name: mnist-sample, indices: 0-2}]
models: ['mlp(hidden=[16])']
defenses: [none, gaussian(variance=1.0), prune(ratio=0.5)]
attacks: [linear, dlg(steps=2)]
exhaustive: false
"""


@pytest.fixture
def two(write):
    sweep, problems = read_sweep(write("mine.yaml", TWO))
    assert not problems
    return sweep


def needs(sweep, scores):
    """{(attack, defense, start): need}, where the trials with a score are done."""
    by_names = {(str(each.attack), str(each.defense), each.start): each for each in trials(sweep)}
    known = {by_names[place].key: score for place, score in scores.items()}
    decide = Needs(sweep, set(known), {key: score for key, score in known.items() if score})
    return {place: decide.of(trial) for place, trial in by_names.items()}


def test_an_attack_waits_for_all_starts_of_those_before_it(two):
    found = needs(two, {(FIRST, "none", 0): Score(0.1, 0.99)})
    assert {found[FIRST, defense, start] for defense in ("none", "int8") for start in (0, 1)} == {Need.DUE}
    assert {found[SECOND, defense, start] for defense in ("none", "int8") for start in (0, 1)} == {
        Need.WAITING
    }


@pytest.mark.parametrize(
    ("other", "need"),
    [
        (Score(0.2, 0.0), Need.SETTLED),  # the attacker keeps the one that leaked
        (Score(0.01, 0.0), Need.DUE),  # it keeps the other
        (Score(0.01, 0.91), Need.SETTLED),
        (None, Need.SETTLED),  # failed
    ],
)
def test_the_start_that_the_attacker_keeps_decides(two, other, need):
    found = needs(two, {(FIRST, "none", 0): Score(0.1, 0.9), (FIRST, "none", 1): other})
    assert {found[SECOND, "none", start] for start in (0, 1)} == {need}
    assert found[SECOND, "int8", 0] == Need.WAITING


def test_an_attack_that_failed_settles_nothing(two):
    found = needs(two, {(FIRST, "none", 0): None, (FIRST, "none", 1): None})
    assert found[SECOND, "none", 0] == Need.DUE


def test_the_kept_start_is_that_of_the_tables():
    rows = table(("none", 0, 0, 0.3, 0.2), ("none", 0, 1, 0.1, 0.95), ("none", 0, 2, 0.1, 0.3))
    scores = [Score(*pair) for pair in zip(rows["objective"], rows["ssim"], strict=True)]
    assert leading(scores).score == kept_starts(rows)["ssim"].item() == 0.95
    nothing = [Score(None, 0.2), Score(None, 0.95)]  # an attack that minimises nothing: its first start
    assert leading(nothing).score == kept_starts(rows.assign(objective=float("nan")))["ssim"].item() == 0.2


def test_an_exhaustive_sweep_needs_every_trial(two, write):
    file = write("mine.yaml", TWO)
    everything, _ = read_sweep(file, Changes(exhaustive=True))
    leaked = {(FIRST, "none", start): Score(0.1, 0.99) for start in (0, 1)}
    assert set(needs(everything, leaked).values()) == {Need.DUE}
    assert needs(two, leaked)[SECOND, "none", 0] == Need.SETTLED


def test_a_suite_is_not_exhaustive_and_a_list_is(write):
    text = "datasets: [cifar10-sample]\ndefenses: [none]\n"
    suite, listed = (
        read_sweep(write(f"{n}.yaml", text + line))[0]
        for n, line in enumerate(("suite: standard", "attacks: [dlg, idlg]"))
    )
    assert (suite.exhaustive, listed.exhaustive) == (False, True)
    changed, problems = read_sweep(write("2.yaml", text + "attacks: [dlg]"), Changes(suite="standard"))
    assert not problems
    assert [str(each.value) for each in changed.attacks] == list(SUITES["standard"])
    assert not changed.exhaustive
    assert changed.changes.typed == "--suite standard"


def test_a_plan_counts_what_is_done_waits_and_is_settled(two):
    everything = list(trials(two))
    first = [each for each in everything if str(each.attack) == FIRST]
    scores = {each.key: Score(0.1, 0.95 if str(each.defense) == "none" else 0.1) for each in first[:3]}
    todo = plan(two, dict.fromkeys(scores, "budget"), scores)
    assert [each.key for each in todo] == [first[3].key]
    assert (len(todo), todo.kept, sum(todo.settled.values()), todo.waiting) == (1, 3, 2, 2)
    scores = {each.key: Score(0.1, 0.95 if str(each.defense) == "none" else 0.1) for each in first}
    todo = plan(two, dict.fromkeys(scores, "budget"), scores)
    assert todo.settled == {"none": 2}
    assert {(str(each.attack), str(each.defense)) for each in todo} == {(SECOND, "int8")}
    assert len(list(todo)) == len(todo) == 2
    assert len(plan(two, {}, ahead=True)) == 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same sweep as it is, with every attack, and stopped after the first attack and taken up again."""
    folder = tmp_path_factory.mktemp("need")
    (folder / "mine.yaml").write_text(SWEEP)
    assert inside(folder, "sweep", "mine.yaml", "--out", "spared", "--executor", "inline") == 0
    assert inside(folder, "sweep", "mine.yaml", "--out", "all", "--executor", "inline", "--exhaustive") == 0
    (folder / "mine.yaml").write_text(SWEEP.replace(", dlg(steps=2)]", "]"))
    assert inside(folder, "sweep", "mine.yaml", "--out", "resumed", "--executor", "inline") == 0
    (folder / "mine.yaml").write_text(SWEEP)
    assert inside(folder, "sweep", "mine.yaml", "--out", "resumed", "--executor", "inline") == 0
    return folder


def test_what_has_leaked_is_not_attacked_again_and_all_else_is_equal_to_the_bit(runs):
    spared, everything, resumed = (stored(runs / name) for name in ("spared", "all", "resumed"))
    assert len(everything) == 18
    second = spared[spared["attack"] == "dlg(steps=2)"]
    assert set(second["defense"]) == {"gaussian(variance=1.0)"}
    assert len(spared) == 9 + 3
    assert spared.equals(everything[everything["key"].isin(spared["key"])].reset_index(drop=True))
    assert resumed.equals(spared)


def test_leaks_are_those_of_all_attacks_together(runs):
    spared, everything = (Store.existing(runs / name) for name in ("spared", "all"))
    ways = [
        strongest(each.rows(), each.scale).set_index(["defense", "index"])[["leaked", "attackable"]]
        for each in (spared, everything)
    ]
    assert ways[0].equals(ways[1])
    assert ways[0].loc["none", "leaked"].all()
    lines = [
        summarize(each.rows(), each.scale).set_index("defense")["leaked"] for each in (spared, everything)
    ]
    assert lines[0].equals(lines[1])


def test_tables_and_status_say_what_was_not_needed(runs):
    made = Store.existing(runs / "spared")
    cells = settings(made.rows())[0].alone["dlg(steps=2)"]
    assert (cells["none"], cells["prune(ratio=0.5)"]) == ("not needed", "not needed")
    assert float(cells["gaussian(variance=1.0)"]) < 0.9
    out = io.StringIO()
    for line in status(made):
        Console(file=out, width=100).print(line)
    assert "12 of 12 trials, 100%" in out.getvalue()
    assert "6 trials are not needed: their victims have leaked to another attack" in out.getvalue()
    whole = Store.existing(runs / "all")
    assert "not needed" not in settings(whole.rows())[0].alone.to_numpy()


def test_figures_and_page_are_made_of_what_there_is(runs):
    made = Run(Store.existing(runs / "spared"))
    drawn = write_figures(made)
    assert "curves dlg(steps=2)" in [each.name for each in drawn]
    assert "not needed" in write_page(made, drawn).read_text()
    whole = Run(Store.existing(runs / "all"))
    page = write_page(whole, []).read_text()
    assert "leakbench sweep mine.yaml --exhaustive" in page  # how to run it again
    assert "not needed" not in page


def test_an_image_of_several_that_is_attacked_again_is_counted():
    rows = table(*(("none", index, 0, 0.1, 0.95 - index / 10) for index in range(3)))
    again = rows[rows["index"] > 0].assign(attack="later", ssim=0.4)
    again["key"] = ["a", "b"]
    cells = settings(pd.concat([rows, again], ignore_index=True))[0].alone
    assert cells.loc["none"].to_dict() == {"dlg": "0.850", "later": "0.400 (2 of 3)"}


def test_the_prediction_is_an_upper_bound(runs, capsys):
    assert inside(runs, "sweep", "mine.yaml", "--out", "new", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "--reuse" not in told
    assert "mine.yaml: 18 trials at most = 3 images x 2 attacks x 3 defenses" in told
    assert "at most 18 trials would run; nothing was written" in told


def test_a_prediction_says_that_it_deducts_no_rows_of_other_runs(runs, capsys):
    assert inside(runs, "sweep", "mine.yaml", "--out", "new", "--dry-run", "--reuse", "resumed") == 0
    assert "note: rows that --reuse would take are not deducted" in capsys.readouterr().out


def test_exhaustive_fills_in_what_was_spared(runs, capsys):
    assert inside(runs, "sweep", "mine.yaml", "--out", "resumed", "--executor", "inline", "--exhaustive") == 0
    assert "12 trials are there already, 6 to run" in capsys.readouterr().out
    assert stored(runs / "resumed").equals(stored(runs / "all"))
    assert (
        inside(runs, "sweep", "mine.yaml", "--out", "resumed", "--executor", "inline") == 0
    )  # takes nothing away
    assert len(stored(runs / "resumed")) == 18


FAILS = """
from dataclasses import dataclass
from pathlib import Path
from leakbench import Defense

@dataclass(frozen=True)
class Fails(Defense):
    def apply(self, gradients, generator):
        if Path("broken").exists():
            raise ValueError("broken")
        return {name: 0 * each for name, each in gradients.items()}
"""


@pytest.mark.usefixtures("without_rehearsal")
def test_failed_trials_run_again_wherever_they_stand(write, tmp_path):
    """Those of the second attack as well, though they wait for the first."""
    write("fails.py", FAILS)
    write("mine.yaml", SWEEP.replace("prune(ratio=0.5)", "'fails.py:Fails'"))
    write("broken", "")
    inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline")
    rows = stored(tmp_path / "runs" / "mine")
    assert (rows[rows["defense"] == "fails.py:Fails"]["status"] == "error").to_list() == [True] * 6
    (tmp_path / "broken").unlink()
    assert inside(tmp_path, "sweep", "mine.yaml", "--executor", "inline", "--retry", "errors") == 0
    rows = stored(tmp_path / "runs" / "mine")
    assert (rows["status"] != "error").all()
    assert len(rows[rows["defense"] == "fails.py:Fails"]) == 6
