"""How wide batches are, and when they are compiled."""

import pytest

from sweeps.resources import choose
from sweeps.spec import read_sweep


@pytest.fixture
def sweep(write):
    text = "datasets: [{name: mnist-5k, indices: 0-99}]\ndefenses: [none]\nattacks: [dlg(steps=%s)]\n"
    return lambda steps=300: read_sweep(write("mine.yaml", text % steps))[0]


@pytest.mark.parametrize(
    ("pending", "workers", "slots"), [(18, 2, 16), (1, 2, 8), (60, 2, 32), (1000, 2, 64), (100, 1, 64)]
)
def test_a_batch_holds_a_workers_share(sweep, pending, workers, slots):
    assert choose(sweep(), pending, workers, "cpu", None).slots == slots


def test_a_width_that_was_asked_for_is_taken(sweep):
    assert choose(sweep(), 1000, 2, "cpu", 5).slots == 5


def test_only_long_sweeps_are_compiled_however_much_of_them_is_left(sweep):
    assert not choose(sweep(300), 100, 2, "cpu", None).compiled  # 600,000 iterations
    assert choose(sweep(1200), 100, 2, "cpu", None).compiled  # 2,400,000
    assert choose(sweep(1200), 1, 2, "cpu", None).compiled


def test_the_reference_engine_is_never_compiled(write):
    text = "datasets: [mnist-sample]\ndefenses: [none]\nattacks: ['dlg(steps=9999999, engine=reference)']\n"
    sweep, _ = read_sweep(write("mine.yaml", text))
    assert not choose(sweep, 1, 1, "cpu", None).compiled
