"""What an attacker would choose among the results of several attacks, and how far noise lies below them."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import settings, table

from leakbench.bench.attacks import Found
from leakbench.bench.attacks.adaptive import least_weight
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import gradient_at, shared_gradient
from leakbench.bench.posterior import image_prior, neg_log_posterior, signal_to_noise
from leakbench.bench.protocols import FedSGD
from leakbench.bench.row import posterior_of
from leakbench.bench.trial import prepare
from leakbench.bench.verdicts import Scale
from leakbench.defenses import DEFENSES, Account
from leakbench.reports.flags import Flag, flags
from leakbench.reports.selection import chosen, kept_starts, strongest
from leakbench.reports.summary import summarize
from leakbench.reports.tables import terminal_tables


def prepared(make_trial, tmp_path, **names):
    return prepare(make_trial(**names), 0, tmp_path)


def posterior(case, account, images, labels):
    clipped = images.clamp(0, 1)
    return neg_log_posterior(
        gradient_at(case.model, clipped, labels), case.shared, account, image_prior(clipped)
    )


def plain(case, account, images, labels):
    """The same by loops over numbers of Python, from the definition."""
    images = images.clamp(0, 1)
    dummy = shared_gradient(case.model, images, labels)
    distance = 0.0
    for name, shared in case.shared.items():
        for place, (one, other) in enumerate(
            zip(dummy[name].flatten().tolist(), shared.flatten().tolist(), strict=True)
        ):
            if account.kept is None or account.kept[name].flatten()[place]:
                distance += (one - other) ** 2
    variation, (count, channels, height, width) = [], images.shape
    for n in range(count):
        for c in range(channels):
            for y in range(height - 1):
                for x in range(width - 1):
                    here = float(images[n, c, y, x])
                    down, right = float(images[n, c, y + 1, x]) - here, float(images[n, c, y, x + 1]) - here
                    variation.append(math.sqrt(down**2 + right**2 + 1e-6))
    return distance / (2 * account.variance) + images.numel() * 0.3 * np.mean(variation) / 0.1


@pytest.mark.parametrize("defense", ["gaussian(variance=0.01)", "laplacian(std=0.1)"])
def test_it_is_the_distance_over_the_noise_and_the_priors_variation(make_trial, tmp_path, defense):
    case, victim, exposed = prepared(make_trial, tmp_path, defense=defense, dataset="mnist-sample")
    images = torch.rand(victim.batch.shape, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    value = posterior(case, exposed.account, images, victim.labels)
    assert value == pytest.approx(plain(case, exposed.account, images, victim.labels), rel=1e-4)


def test_only_what_was_kept_counts(make_trial, tmp_path):
    case, victim, exposed = prepared(make_trial, tmp_path, defense="prune(ratio=0.9)", dataset="mnist-sample")
    told = dataclasses.replace(exposed.account, variance=1e-3)
    value = posterior(case, told, victim.batch, victim.labels)
    assert value == pytest.approx(plain(case, told, victim.batch, victim.labels), rel=1e-4)
    untold = posterior(case, Account(variance=1e-3), victim.batch, victim.labels)
    assert untold > value  # the victim's own image does not explain the zeros


@pytest.mark.parametrize("defense", ["none", "int8", "gaussian(variance=0.001)", "prune(ratio=0.5)"])
def test_the_image_is_likelier_than_others(make_trial, tmp_path, defense):
    case, victim, exposed = prepared(make_trial, tmp_path, defense=defense)
    others = [torch.rand(victim.batch.shape), victim.batch.flip(-1), torch.full_like(victim.batch, 0.5)]
    values = [posterior(case, exposed.account, images, victim.labels) for images in (victim.batch, *others)]
    assert min(values) == values[0]


def test_logits_and_classes_are_one_label_and_nothing_is_no_number(make_trial, tmp_path):
    case, victim, exposed = prepared(make_trial, tmp_path, defense="gaussian(variance=0.001)")
    logits = torch.full(case.spec.logit_shape, -torch.inf)
    logits[0, victim.labels[0]] = 0
    ways = [posterior(case, exposed.account, victim.batch, labels) for labels in (victim.labels, logits)]
    assert ways[0] == pytest.approx(ways[1], rel=1e-5)
    broken = torch.full_like(victim.batch, torch.nan)
    assert posterior(case, None, broken, victim.labels) == math.inf
    assert posterior_of(case, FedSGD(), exposed.account, Found(victim.batch)) is None


def test_rows_hold_both_whether_or_not_the_attack_knows_the_defense(make_trial):
    trials = [
        make_trial(defense="gaussian(variance=0.01)", attack=attack)
        for attack in ("dlg(steps=1)", "adaptive(steps=1)")
    ] + [make_trial(defense=defense) for defense in ("none", "int8", "prune(ratio=0.5)")]
    rows = {(each.row.attack, each.row.defense): each.row for each in run_trials(trials, Conditions())}
    noisy = [row for (_, defense), row in rows.items() if defense.startswith("gaussian")]
    for row in noisy:
        entries = 15_826  # of this LeNet, for CIFAR-10
        assert row.signal_to_noise == pytest.approx(row.gradient_norm**2 / (entries * 0.01), rel=1e-3)
    assert {row.threat for row in noisy} == {"defense", "nothing"}
    assert all(row.signal_to_noise is None for row in rows.values() if row not in noisy)
    assert all(math.isfinite(row.neg_log_posterior) for row in rows.values())


def test_rounds_take_noise_away(make_trial, tmp_path):
    ratios = [
        signal_to_noise(exposed.gradient, exposed.account)
        for protocol in ("fedsgd", "fedsgd(rounds=4)")
        for _, _, exposed in [
            prepared(make_trial, tmp_path, defense="gaussian(variance=0.01)", protocol=protocol)
        ]
    ]
    assert ratios[1] == pytest.approx(4 * ratios[0])
    assert signal_to_noise({}, None) is None
    assert signal_to_noise({}, DEFENSES.parse("prune(ratio=0.5)").account({})) is None


def test_each_tensor_is_weighed_by_its_own_noise():
    generator = torch.Generator().manual_seed(0)
    shared = {name: torch.randn(size, generator=generator) for name, size in (("a", 7), ("b", 20), ("c", 3))}
    dummy = {name: torch.randn(each.shape, generator=generator) for name, each in shared.items()}
    images, variance = torch.zeros(1, 1, 4, 4), {"a": 0.01, "b": 4.0, "c": 0.0}
    prior = neg_log_posterior(shared, shared, Account(variance=variance), image_prior(images))
    value = neg_log_posterior(dummy, shared, Account(variance=variance), image_prior(images)) - prior
    # "c" has no noise, and counts like the least noisy
    wanted = sum(
        float((dummy[name] - shared[name]).square().sum()) / (2 * divisor)
        for name, divisor in {"a": 0.01, "b": 4.0, "c": 0.01}.items()
    )
    assert value == pytest.approx(wanted, rel=1e-5)
    square = sum(float(each.square().sum()) for each in shared.values())
    ratio = signal_to_noise(shared, Account(variance=variance))
    assert ratio == pytest.approx(square / (7 * 0.01 + 20 * 4.0))
    assert signal_to_noise(shared, Account(variance=dict.fromkeys(shared, 0.0))) is None


def test_mean_squares_of_rounding_errors_count_as_a_variance():
    """And not as that of errors spread evenly within their bounds, a third of the bounds' square."""
    shared = {name: torch.full((4,), 3.0) for name in "abc"}
    dummy, bounds = ({name: value + 0 * each for name, each in shared.items()} for value in (2.0, 9.0))
    squares = {"a": 0.01, "b": 4.0, "c": 0.0}
    values = [
        neg_log_posterior(dummy, shared, account, 0.0)
        for account in (
            Account(variance=squares),
            Account(rounding=bounds, mean_squares=squares),
            Account(rounding=bounds),
        )
    ]
    assert values[0] == pytest.approx(values[1])
    assert values[2] == pytest.approx(12 / (2 * 81 / 3))


def test_equal_variances_by_name_are_one_variance(make_trial, tmp_path):
    case, victim, exposed = prepared(make_trial, tmp_path, defense="gaussian(variance=0.01)")
    by_name = Account(variance=dict.fromkeys(case.shared, 0.01))
    values = [posterior(case, each, victim.batch, victim.labels) for each in (exposed.account, by_name)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    one, other = (
        least_weight(dataclasses.replace(case, account=each)) for each in (exposed.account, by_name)
    )
    assert one == pytest.approx(other, rel=1e-6)
    assert one > 0


NOISE = "gaussian(variance=0.1)"
WEAK = table(("none", 0, 0, 1.0, 0.95), (NOISE, 0, 0, 1.0, 0.5), (NOISE, 0, 1, 2.0, 0.9))
STRONG = table(("none", 0, 0, 9.0, 0.97), (NOISE, 0, 0, 9.0, 0.8))
ROWS = pd.concat([WEAK.assign(attack="one"), STRONG.assign(attack="other")], ignore_index=True)
ROWS["key"] = [str(number) for number in range(len(ROWS))]
ROWS["neg_log_posterior"] = [5.0, 1.0, 0.5, 4.0, 2.0]
ROWS.loc[ROWS["defense"] == NOISE, "signal_to_noise"] = 3.0


def test_an_attacker_chooses_the_likeliest_of_the_starts_that_its_attacks_keep():
    picked = chosen(kept_starts(ROWS)).set_index("defense")["key"].to_dict()
    assert picked == {"none": "3", NOISE: "1"}  # not the start that its own attack threw away
    assert strongest(ROWS, Scale()).set_index("defense")["key"].to_dict() == {"none": "3", NOISE: "4"}
    silent = ROWS.assign(neg_log_posterior=ROWS["neg_log_posterior"].mask(ROWS["attack"] == "one"))
    assert chosen(kept_starts(silent)).set_index("defense")["key"].to_dict() == {"none": "3", NOISE: "4"}


def test_both_numbers_are_reported_with_a_flag_if_they_differ_much():
    lines = summarize(ROWS, Scale()).set_index("defense")
    assert lines.loc[NOISE, ["ssim", "chosen", "signal_to_noise"]].to_list() == [0.8, 0.5, 3.0]
    assert lines.loc["none", "chosen"] == lines.loc["none", "ssim"] == 0.97
    (raised,) = [each for each in flags(ROWS, Scale(), lambda _: {}) if each.flag == Flag.HARD_TO_CHOOSE]
    assert (raised.defense, raised.detail) == (
        NOISE,
        "SSIM 0.800, but 0.500 for what an attacker would choose",
    )
    near = ROWS.assign(ssim=ROWS["ssim"].mask(ROWS["key"] == "1", 0.71))
    assert Flag.HARD_TO_CHOOSE not in {each.flag for each in flags(near, Scale(), lambda _: {})}


def test_the_terminal_shows_them_below_its_table():
    *_, board = terminal_tables(settings(ROWS))
    caption = str(board.caption)
    assert f"would choose: 0.500 for {NOISE}; otherwise the same" in caption
    assert f"3 for {NOISE}" in caption
    *_, alone = terminal_tables(settings(ROWS[ROWS["attack"] == "one"]))
    assert "likely" not in str(alone.caption)
