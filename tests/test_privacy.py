"""The epsilon of trainings: against formulas of the literature, and from the settings to the tables."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from leakbench.bench import privacy
from leakbench.bench.datasets import DATASETS
from leakbench.bench.lock_step import train_together
from leakbench.bench.models import MODELS
from leakbench.bench.privacy import epsilon_of
from leakbench.bench.protocols import PROTOCOLS
from leakbench.bench.training import Examples, Recipe, Training
from leakbench.bench.verdicts import Scale
from leakbench.defenses import DEFENSES
from leakbench.reports.figures.privacy import draw_privacy
from leakbench.reports.utility import epsilon_caption, epsilon_text, summarize_utility, utility_tables


def exact_gaussian(deviation, delta=1e-5):
    """The epsilon of one Gaussian mechanism of that deviation: Balle and Wang 2018, theorem 8."""

    def error(epsilon):
        first, second = (norm.cdf(sign / (2 * deviation) - epsilon * deviation) for sign in (1, -1))
        return first - math.exp(epsilon) * second - delta

    return brentq(error, 0, 200)


def renyi(noise, rate, steps, delta=1e-5):
    """Orders that are whole numbers: Mironov, Talwar and Zhang 2019, section 3.3; Canonne et al. 2020, 12."""

    def bound(order):
        terms = [
            math.log(math.comb(order, k)) + (order - k) * math.log1p(-rate) + k * math.log(rate)
            + k * (k - 1) / (2 * noise**2)
            for k in range(order + 1)
        ]  # fmt: skip
        most = max(terms)
        total = steps * (most + math.log(sum(math.exp(each - most) for each in terms))) / (order - 1)
        return total + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)

    return min(bound(order) for order in range(2, 64))


@pytest.mark.parametrize(("noise", "steps"), [(4.0, 1), (4.0, 30), (20.0, 30)])
def test_with_all_examples_in_every_step_it_bounds_the_gaussian_mechanism(noise, steps):
    exact = exact_gaussian(noise / math.sqrt(steps))  # so many releases are one with less noise
    assert exact <= epsilon_of(noise, 1.0, steps) <= 1.15 * exact


@pytest.mark.parametrize(("noise", "epochs"), [(1.3, 15), (1.1, 60), (0.7, 45)])
def test_with_samples_it_is_the_renyi_bound(noise, epochs):
    """The settings of TensorFlow Privacy's tutorial for MNIST: 256 of 60,000 examples a step."""
    rate, steps = 256 / 60_000, epochs * 60_000 // 256
    ours = epsilon_of(noise, rate, steps)
    assert 0.97 * renyi(noise, rate, steps) <= ours <= renyi(noise, rate, steps) * (1 + 1e-6)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.1, 256 / 60_000, 14_062), (0.8, 0.005, 6000)])
def test_it_is_that_of_opacus(noise, rate, steps):
    accountants = pytest.importorskip("opacus.accountants", reason="opacus is not installed")
    accountant = accountants.RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    assert epsilon_of(noise, rate, steps) == pytest.approx(accountant.get_epsilon(delta=1e-5), rel=0.01)


def test_without_noise_it_is_infinite():
    assert epsilon_of(0.0, 0.1, 10) == math.inf


def test_a_training_that_took_no_step_revealed_nothing():
    assert epsilon_of(1.0, 0.1, 0) == 0.0


def trained(defense, **changes):
    """A row of a finished training of 10 steps, with a tenth of the examples in each."""
    row = dict.fromkeys(("reason", "noise_multiplier", "strength")) | {
        "train": "40 of a", "test": "10 of a", "model": "lenet", "protocol": "fedsgd", "recipe": "r",
        "seed": 0,
        "defense": defense, "defense_name": defense.partition("(")[0], "family": "x", "status": "converged",
        "steps": 10, "accuracy": 0.5, "sampling_rate": 0.1,
    }  # fmt: skip
    return row | changes


ROWS = pd.DataFrame(
    [
        trained("none", accuracy=0.9),
        trained("gaussian(std=1.0)"),
        trained("dp_gaussian(noise_multiplier=2)", noise_multiplier=2.0),
        trained("dp_gaussian(noise_multiplier=0.01)", noise_multiplier=0.01),
    ]
).astype({"noise_multiplier": float, "strength": float})


def test_only_defenses_that_bound_an_example_have_one():
    lines = summarize_utility(ROWS).set_index("defense")["epsilon"]
    assert lines["dp_gaussian(noise_multiplier=2)"] == epsilon_of(2.0, 0.1, 10)
    assert lines[["none", "gaussian(std=1.0)"]].isna().all()


def cells(rows):
    (table,) = utility_tables(rows)
    return {column.header: list(column.cells) for column in table.columns}, str(table.caption)


def test_the_table_shows_it_and_cuts_off_what_promises_nothing():
    columns, caption = cells(ROWS)
    assert sorted(columns["epsilon"]) == sorted(["-", "-", f"{epsilon_of(2.0, 0.1, 10):.2f}", "> 1000"])
    assert (
        "epsilon: of differential privacy, per example, for the whole training, at delta = 1e-05" in caption
    )
    assert "epsilon" not in cells(ROWS[:2])[0]


def test_without_the_accountant_the_table_says_what_to_install(monkeypatch):
    monkeypatch.setattr(privacy, "find_spec", lambda _: None)
    columns, caption = cells(ROWS)
    assert set(columns["epsilon"]) == {"-"}
    assert "needs dp-accounting, which is not installed: pip install dp-accounting" in caption
    assert epsilon_caption() in caption


def test_infinite_and_missing_values_as_text():
    assert [epsilon_text(each) for each in (math.nan, 0.5, 1000.0, math.inf)] == [
        "-", "0.50", "1000.00", "> 1000"
    ]  # fmt: skip


def test_a_training_tells_its_noise_where_examples_are_clipped():
    digits = DATASETS.parse("mnist-sample")
    private = Training(
        Examples(digits, tuple(range(10))), Examples(digits, (10, 11)), MODELS.parse("lenet"), 0,
        Recipe(clients=2, batch_size=1, epochs=1), DEFENSES.parse("dp_gaussian(noise_multiplier=0.5)"),
    )  # fmt: skip
    (row,) = (each.row for each in train_together([private], Path()))
    assert (row.noise_multiplier, row.sampling_rate, row.steps) == (0.5, 0.2, 5)
    several = PROTOCOLS.parse("fedavg(local_steps=3)")
    again = replace(private, protocol=PROTOCOLS.parse("fedsgd(rounds=4)"))
    assert again.noise_multiplier == 0.25  # four draws on the same batch are one with half the deviation
    assert replace(private, protocol=several).noise_multiplier is None  # a client's update is clipped as one
    assert replace(private, defense=DEFENSES.parse("gaussian(std=0.1)")).noise_multiplier is None


def test_the_figure_skips_what_has_no_finite_epsilon():
    lines = summarize_utility(ROWS).assign(
        ssim=[1.0, 0.9, 0.1, 0.2], ssim_low=0.0, ssim_high=1.0, strength=1.0, family="x", defense_name="x"
    )
    lines["epsilon"] = [math.nan, math.inf, 1.0, 10.0]
    upper, lower = draw_privacy(lines, Scale()).axes
    assert sorted(float(each.lines[0].get_xdata()[0]) for each in upper.containers) == [1.0, 10.0]
    assert sorted(float(each.lines[0].get_ydata()[0]) for each in upper.containers) == [0.1, 0.2]
    assert [float(each.lines[0].get_ydata()[0]) for each in lower.containers] == [50.0, 50.0]
    assert [float(line.get_ydata()[0]) for line in lower.lines if line.get_linestyle() == "--"] == [90.0]
