"""What the paper says of its defenses, on a real image with the real attack.

Zhu et al. 2019, section 5: half precision and little pruning do not protect, strong noise and
strong pruning do.
"""

import pytest

from leakbench.bench.attacks import Resources
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import Trial

pytestmark = pytest.mark.numeric

RECOGNISABLE = ["none", "float16", "bfloat16", "prune(ratio=0.01)"]
NOT_RECOGNISABLE = ["gaussian(variance=0.01)", "laplacian(variance=0.01)", "prune(ratio=0.5)"]


@pytest.fixture(scope="module")
def rows():
    """{defense: row} of one image, all attacked at once."""
    trials = [
        Trial.from_names(
            {
                "dataset": "cifar10-sample", "index": 0, "model": "lenet", "model_seed": 0,
                "attack": "dlg(steps=60)", "defense": defense, "start": 0,
            }
        )
        for defense in RECOGNISABLE + NOT_RECOGNISABLE
    ]  # fmt: skip
    results = run_trials(trials, Conditions(Resources(slots=7)))
    return {result.row.defense: result.row for result in results}


@pytest.mark.parametrize("defense", RECOGNISABLE)
def test_the_image_is_recognisable_in_spite_of(rows, defense):
    assert rows[defense].ssim > 0.9
    assert rows[defense].label_correct


@pytest.mark.parametrize("defense", NOT_RECOGNISABLE)
def test_the_image_is_not_recognisable_under(rows, defense):
    assert rows[defense].ssim < 0.3
