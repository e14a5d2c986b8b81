"""What an attack must not return: each breach of the contract is a sentence in the row of its trial."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pytest
import torch

from leakbench.bench.attacks import ATTACKS, Attack, Found, Resources, Spec, Status
from leakbench.bench.attacks.base import Case
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.models import MODELS
from leakbench.bench.trial import Trial
from leakbench.bench.verdicts import Scale
from leakbench.core.configured import SettingError
from leakbench.defenses import DEFENSES, ContractError
from leakbench.reports.selection import strongest
from leakbench.sweeps.tables import TRIALS

pytestmark = pytest.mark.numeric


@dataclass(frozen=True)
class Grey(Attack):
    """Says grey, without a single step. `deed` breaks a promise, for image 0."""

    name: ClassVar[str] = "grey"
    deed: str = ""

    def invert_many(self, cases, observe, resources):
        for case in cases:
            found = Found(
                torch.full(case.spec.batch_shape, 0.5), torch.zeros(case.spec.logit_shape), reason="grey"
            )
            broken = case.number == 0
            yield from DEEDS.get(self.deed if broken else "", _honest)(case, found, observe)


def _honest(case, found, observe):
    yield case.number, found


def _with(**changes):
    def deed(case, found, observe):
        yield (
            case.number,
            dataclasses.replace(found, **{name: change(found) for name, change in changes.items()}),
        )

    return deed


def _nothing(case, found, observe):
    return iter(())


def _wrong_number(case, found, observe):
    yield 7, found


def _twice(case, found, observe):
    yield case.number, found
    yield case.number, found


def _bare(case, found, observe):
    yield case.number, found.x


def _observes_another(case, found, observe):
    observe([7], [0], found.x[None])
    yield case.number, found


def _observes_one_image(case, found, observe):
    observe([case.number], [0], found.x)
    yield case.number, found


def _observes_labels(case, found, observe):
    observe([case.number], [0], found.x[None], found.labels)
    yield case.number, found


DEEDS = {
    "no number": _with(x=lambda found: found.x * math.nan),
    "flat": _with(x=lambda found: found.x[0]),
    "double": _with(x=lambda found: found.x.double()),
    "list": _with(x=lambda found: found.x.tolist()),
    "logits": _with(labels=lambda found: found.labels[:, :3]),
    "classes": _with(labels=lambda _: torch.tensor([10])),
    "label list": _with(labels=lambda _: [3]),
    "status": _with(status=lambda _: "fine"),
    "error": _with(status=lambda _: Status.ERROR),
    "objective": _with(objective=lambda _: math.nan),
    "history": _with(history=lambda _: None),
    "seconds": _with(seconds=lambda _: -1.0),
    "reason": _with(reason=lambda _: None),
    "nothing": _nothing,
    "wrong number": _wrong_number,
    "twice": _twice,
    "bare": _bare,
    "observes another": _observes_another,
    "observes one image": _observes_one_image,
    "observes labels": _observes_labels,
    "inputs": _with(inputs=lambda found: [found.x]),
    "liar": _with(objective=lambda _: -1.0),
    "graph": _with(x=lambda found: found.x.clone().requires_grad_()),
}


LABELS = "expected classes (1,) below 10, or logits (1, 10)"


def rows(deed, images=2, defense="none"):
    trials = [
        Trial(
            DATASETS.parse("mnist-sample"), index, MODELS.parse("mlp(hidden=[8])"), 0, Grey(deed=deed),
            DEFENSES.parse(defense), 0,
        )
        for index in range(images)
    ]  # fmt: skip
    return {each.row.index: each.row for each in run_trials(trials, Conditions(Resources(slots=2)))}


@pytest.mark.parametrize(
    ("deed", "problem"),
    [
        ("no number", "images: holds NaN or infinity"),
        ("flat", "images: expected shape (1, 1, 28, 28), got (1, 28, 28)"),
        ("double", "images: expected torch.float32, got torch.float64"),
        ("list", "images: expected shape (1, 1, 28, 28), got list"),
        ("logits", f"labels: {LABELS}: expected shape (1, 10), got (1, 3)"),
        ("classes", f"labels: {LABELS}, got [10]"),
        ("label list", f"labels: {LABELS}, got list"),
        ("status", "status: expected one of Status.CONVERGED, Status.BUDGET, Status.DIVERGED, got 'fine'"),
        ("error", "status: expected one of Status.CONVERGED, Status.BUDGET, Status.DIVERGED, got"),
        ("objective", "objective: expected a number or None, got nan"),
        ("history", "history: expected a list of numbers"),
        ("seconds", "seconds: expected a number >= 0, got -1.0"),
        ("reason", "reason: expected text, got None"),
        ("inputs", "inputs: expected {name of a layer: tensor}"),
        ("nothing", "expected a result for every case, got none"),
        ("bare", "expected Found(x, ...), got Tensor"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_the_row_of_its_own_trial(deed, problem):
    found = rows(deed)
    assert found[0].status == "error"
    assert found[0].reason.startswith(f"ContractError: attack {Grey(deed=deed)}: {problem}")
    assert (found[0].ssim, found[0].match_loss, found[0].iterations) == (None, None, None)
    assert (found[1].status, found[1].reason) == ("converged", "grey")


@pytest.mark.parametrize(
    ("deed", "problem"),
    [
        ("wrong number", "expected the number of a case that was taken and not yet answered, got 7"),
        ("twice", "expected the number of a case that was taken and not yet answered, got 0"),
        (
            "observes another",
            "observe: expected numbers of cases that were taken and not yet answered, got 7",
        ),
        (
            "observes one image",
            "observe: expected 1 steps and dummy images of shape (1, 1, 1, 28, 28), got 1 and (1, 1, 28, 28)",
        ),
        ("observes labels", "observe: expected labels of shape (1, 1, 10), or none, got (1, 10)"),
    ],
)
def test_what_belongs_to_no_trial_ends_those_under_way(deed, problem):
    found = rows(deed)
    reasons = [row.reason for row in found.values() if row.status == "error"]
    assert len(found) == 2
    assert reasons == [f"ContractError: attack {Grey(deed=deed)}: {problem}"] * len(reasons)
    assert deed == "twice" or found[0].status == "error"
    assert found[1].status == "converged"


def test_an_attack_in_closed_form_has_a_result():
    """No objective, no history: it is scored, and counts as done."""
    row = rows("")[0]
    assert (row.status, row.iterations, row.objective, row.finite) == ("converged", 0, None, True)
    assert row.ssim is not None
    assert row.match_loss > 0


def test_the_match_loss_is_worked_out_here():
    """One that claims -1 is believed in nothing but what it says of itself."""
    liar, honest = rows("liar")[0], rows("")[0]
    assert liar.objective == -1.0
    assert liar.match_loss == honest.match_loss > 0


SMALLEST = """
from dataclasses import dataclass
import torch
from leakbench import Attack, Found

@dataclass(frozen=True)
class Grey(Attack):
    def invert(self, case):
        return Found(torch.full(case.spec.batch_shape, 0.5))
"""


def test_an_attack_is_one_method(make_trial, write):
    """It loops, times and scores nothing; what it did not look for is not measured."""
    name = f"{write('grey.py', SMALLEST)}:Grey"
    trials = [make_trial(index=index, attack=name) for index in range(2)]
    for result in run_trials(trials, Conditions(Resources(slots=2))):
        row = result.row
        assert (row.status, row.iterations, row.match_loss, row.objective) == ("converged", 0, None, None)
        assert (row.label_true is None, row.label_recovered, row.label_correct) == (False, None, None)
        assert row.mse == pytest.approx(float((result.trace.truth - 0.5).square().mean()))
        assert row.seconds > 0
        assert row.classes == 10
    best = strongest(rows_of(trials), Scale())
    assert len(best) == 2


def rows_of(trials):
    records = [dataclasses.asdict(each.row) for each in run_trials(trials, Conditions(Resources()))]
    return pd.DataFrame(records, columns=list(TRIALS.dtypes)).astype(TRIALS.dtypes)


def test_the_time_is_taken_here(write):
    slow = SMALLEST.replace("import torch\n", "import time, torch\n").replace(
        "        return", "        time.sleep(0.05)\n        return"
    )
    attack = ATTACKS.parse(f"{write('grey.py', slow)}:Grey")
    ((_, found),) = attack.run(iter([a_case()]), lambda *_: None, Resources())
    assert 0.05 <= found.seconds < 5


def a_case(number=0):
    images = open_dataset(DATASETS.parse("mnist-sample"), None)
    network = MODELS.parse("mlp(hidden=[8])").build(images.shape, images.classes, 0)
    shared = {name: each.detach() for name, each in network.named_parameters()}
    return Case(number, network, shared, Spec(images.shape, images.classes), ("a test", number))


def test_what_attacks_many_attacks_one():
    found = ATTACKS.parse("dlg(steps=1)").invert(a_case())
    assert isinstance(found, Found)
    assert found.status == "budget"


def test_a_start_has_draws_of_its_own():
    first, again, other = (a_case(number).generator("start") for number in (0, 0, 1))
    one, two, three = (torch.rand(4, generator=each) for each in (first, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_class_that_attacks_nothing_is_refused(write):
    path = write("idle.py", "from leakbench.bench.attacks import Attack\nclass Idle(Attack): pass\n")
    with pytest.raises(
        SettingError, match="expected one of invert, invert_many to be overridden, found none"
    ):
        ATTACKS.parse(f"{path}:Idle")


def test_what_is_left_of_a_graph_does_no_harm():
    assert rows("graph")[0].status == "converged"


def test_the_checks_hold_without_the_harness():
    """As `leakbench attack` uses an attack: the base class does the checking."""
    cases = [a_case(number) for number in range(2)]
    answers = dict(Grey(deed="flat").run(iter(cases), lambda *_: None, Resources()))
    assert isinstance(answers[0], ContractError)
    assert isinstance(answers[1], Found)


def test_nan_is_no_verdict():
    with pytest.raises(ValueError, match="expected a number for the SSIM, got NaN"):
        Scale().verdict(math.nan)


def test_a_truth_that_is_nan_is_an_error_of_the_trial(monkeypatch):
    """Whatever makes a score NaN: it never passes for a picture that did not leak."""
    monkeypatch.setattr("leakbench.bench.metrics.ssim", lambda *_: math.nan)
    row = rows("", images=1)[0]
    assert row.status == "error"
    assert row.reason.startswith("ValueError: expected scores that are numbers, got NaN")


def test_only_the_status_says_whether_there_is_a_result():
    assert [each for each in Status if not each.has_result] == [Status.ERROR]
