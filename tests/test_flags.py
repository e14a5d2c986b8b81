"""Each flag: raised where its page says so, and nowhere else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import table

from leakbench.bench.verdicts import Scale
from leakbench.reports.flags import MEANINGS, Flag, Raised, flag_lines, flags, is_falling
from leakbench.sweeps.tables import TRIALS

DONE, FALLING = np.array([10.0, *[1e-6] * 20]), np.geomspace(10, 0.1, 21)
SOUND = {"finite": True, "gradient_norm": 10.0, "shared_norm": 10.0, "status": "converged"}


def rows(images=10, leaking=10, **changes):
    """Ten images, through nothing and through int8, which hides all of them; `changes` are of int8."""
    none = [("none", image, 0, 1e-6, 0.95 if image < leaking else 0.25) for image in range(images)]
    made = table(*none, *(("int8", image, 0, 0.5, 0.1) for image in range(images)))
    made = made.assign(**SOUND).astype(TRIALS.dtypes)
    hidden = made["defense"] == "int8"
    for name, value in changes.items():
        made.loc[hidden, name] = pd.NA if value is None else value
    return made


def raised(made, history=DONE):
    found = flags(made, Scale(), lambda keys: dict.fromkeys(keys, history))
    return {(str(each.flag), each.defense) for each in found}


def test_sound_rows_raise_no_flag():
    assert raised(rows()) == set()


def test_a_baseline_that_fails_too_often_is_flagged():
    assert raised(rows(leaking=7)) == {("BASELINE_FAILED", "none"), ("FEW_TRIALS", "int8")}
    assert ("BASELINE_FAILED", "none") not in raised(rows(leaking=8))


def test_a_baseline_without_a_single_result_is_flagged():
    failed = table(
        *(("none", i, 0, None, None) for i in range(10)), *(("int8", i, 0, 0.5, 0.1) for i in range(10))
    )
    (found,) = [each for each in flags(failed, Scale(), lambda _: {}) if each.flag == Flag.BASELINE_FAILED]
    assert found.detail == "0 of 0 images leak without a defense: none of 10 undefended trials has a result"


def test_few_images_are_flagged():
    assert raised(rows(images=9, leaking=9)) == {("FEW_TRIALS", "none"), ("FEW_TRIALS", "int8")}


def test_a_match_loss_that_was_not_finite_is_flagged():
    assert raised(rows(finite=False)) == {("NON_FINITE", "int8")}
    assert raised(rows(finite=None)) == set()  # a trial without a result says nothing of that


@pytest.mark.parametrize(("status", "history"), [("converged", FALLING), ("budget", DONE)])
def test_an_attack_that_came_to_its_end_is_no_reason_for_doubt(status, history):
    assert raised(rows(status=status), history) == set()


def test_an_attack_that_was_still_improving_is_flagged():
    assert raised(rows(status="budget"), FALLING) == {("NOT_CONVERGED", "int8")}
    few = rows(status="budget")
    few.loc[few["index"] > 1, "status"] = "converged"  # two of ten are not more than a fifth
    assert raised(few, FALLING) == set()


def test_a_match_loss_falls_where_its_lowest_value_does():
    assert is_falling(FALLING)
    assert not is_falling(DONE)
    assert not is_falling(np.array([1.0, *[0.5, 2.0] * 10]))
    assert not is_falling(np.array([1.0, *[0.5, np.nan] * 10]))
    assert not is_falling(np.array([3.0]))


@pytest.mark.parametrize("silent", [{"shared_norm": 0.0}, {"gradient_norm": 9e-4}])
def test_a_gradient_that_says_nothing_is_flagged(silent):
    assert raised(rows(**silent)) == {("ZERO_GRADIENT", "int8")}


def test_details_say_what_was_counted():
    made = rows(finite=False, gradient_norm=9e-4)
    found = {each.flag: each.detail for each in flags(made, Scale(), lambda _: {})}
    assert found[Flag.NON_FINITE] == "10 of 10 trials had an objective that is NaN or infinite"
    assert found[Flag.ZERO_GRADIENT] == "10 of 10 trials had a gradient that is zero, or nearly"


def test_a_match_without_the_image_is_flagged():
    assert raised(rows(match_loss=1e-4)) == {("LOSS_IMAGE_DISAGREE", "int8")}
    assert raised(rows(match_loss=1e-4, ssim=0.4)) == set()


def test_changed_images_that_were_rebuilt_are_flagged():
    assert raised(rows(input_score=0.9)) == {("INPUT_REBUILT", "int8")}
    assert raised(rows(input_score=0.89)) == set()
    assert raised(rows(input_score=0.9, ssim=0.9)) == set()  # the images themselves leaked
    by_another = rows().assign(attack="adaptive", input_score=0.95, ssim=0.0)
    both = pd.concat([rows(input_score=0.1), by_another[by_another["defense"] == "int8"]])
    assert raised(both.reset_index(drop=True)) == {("INPUT_REBUILT", "int8")}


def test_a_defense_that_an_attack_knows_nothing_about_is_flagged():
    made = rows(threat="nothing").assign(attack="adaptive")
    assert raised(made) == set()  # an attack that uses no account
    made.loc[made["defense"] == "none", "threat"] = "defense"
    assert raised(made) == {("NOT_ADAPTIVE", "int8")}
    made["threat"] = "defense"
    assert raised(made) == set()


def test_a_line_names_the_defenses_that_share_a_flag():
    few = [Raised(Flag.FEW_TRIALS, name, "2 images counted") for name in ("none", "int8")]
    assert list(flag_lines(few, 2)) == ["FEW_TRIALS: 2 images counted (every defense)"]
    assert list(flag_lines(few, 3)) == ["FEW_TRIALS: 2 images counted (none, int8)"]
    failed = [Raised(Flag.BASELINE_FAILED, "none", "2 of 4 images leak without a defense")]
    assert list(flag_lines(failed, 3)) == ["BASELINE_FAILED: 2 of 4 images leak without a defense"]


def test_every_flag_has_its_place_on_the_page():
    page = (Path(__file__).parent.parent / "docs" / "FLAGS.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [str(flag) for flag in Flag]


def test_the_documented_flags_say_what_the_page_says():
    documented = " ".join((Path(__file__).parent.parent / "docs" / "FLAGS.md").read_text().split())
    assert set(MEANINGS) == set(Flag)
    for flag, (raised_if, meaning) in MEANINGS.items():
        assert f"## {flag} *Raised if* {raised_if}. *What it means:* {meaning}" in documented
