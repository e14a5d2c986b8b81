"""What the paper says of its defenses, on a real image with the real attack.

Zhu et al. 2019, section 5: half precision and little pruning do not protect, strong noise and
strong pruning do.
"""

from pathlib import Path

import pytest

from bench.trial import run_trial


@pytest.mark.parametrize("defense", ["none", "float16", "bfloat16", "prune(ratio=0.01)"])
def test_the_image_is_recognisable_in_spite_of(make_trial, defense):
    row = run_trial(make_trial(attack="dlg(steps=100)", defense=defense), "cpu", Path("data"), 0).row
    assert row.ssim > 0.9
    assert row.label_correct


@pytest.mark.parametrize(
    "defense", ["gaussian(variance=0.01)", "laplacian(variance=0.01)", "prune(ratio=0.5)"]
)
def test_the_image_is_not_recognisable_under(make_trial, defense):
    row = run_trial(make_trial(attack="dlg(steps=100)", defense=defense), "cpu", Path("data"), 0).row
    assert row.ssim < 0.3
