"""Sweep files that nobody would write: hundreds of them, or two thousand, and not one traceback."""

import math
from datetime import date
from functools import cache

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from leakbench.bench.attacks import ATTACKS, Resources
from leakbench.bench.datasets import DATASETS
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.models import MODELS
from leakbench.bench.trial import Trial
from leakbench.core.configured import setting_types
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.plan import plan
from leakbench.sweeps.resources import choose

GOOD = {
    "datasets": ["mnist-sample", "cifar10-sample", {"name": "mnist-sample", "indices": "3-4"}],
    "models": ["mlp(hidden=[4])", {"name": "mlp", "hidden": [3], "activation": "relu", "weights": "default"}],
    "attacks": ["dlg(steps=1)", {"name": "dlg", "engine": "reference"}, {"name": "dlg", "max_iter": [2, 3]}],
    "defenses": ["none", "int8", {"name": "prune", "ratio": [0.1, 0.2]}, {"name": "gaussian", "std": 0.1}],
}
REGISTRIES = {"datasets": DATASETS, "models": MODELS, "attacks": ATTACKS, "defenses": DEFENSES}
OTHERS = {"restarts": [1, 2], "model_seeds": [0, "1-2"], "snapshot_every": [0, 5], "trial_timeout": [0, 9.5]}
ODD_NAMES = [
    "mnist-samples",
    "svhn",
    "folder:nowhere",
    "nowhere.py:Net",
    "dlg(steps=)",
    "prune(ratio=2)",
    "()",
]
NUMBERS = [-2, -1, 0, 1, 2, 3, 10**4, 10**7, 10**15, -(10**15), 10**400]
NUMBERS += [0.5, 1e-4, 3.0, 1e-308, 1e308, -0.0, math.inf, math.nan]
WORDS = ["", "0-1", "0-3,1", "5-2", "normal", "uniform", "global", "tanh", "1e-4", "./x.py:", "é\0", "a\nb"]
OTHER_VALUES = [None, True, False, date(2001, 2, 3), b"\xff", [], {}, [1, 2], [[3]], {"name": "dlg"}, [None]]
SCRATCHES = ["", "\t", ":", "- ", "&a ", "*a", "!!python/name:os.system ", "[", "{", "'", "\n", "2001-99-99"]


def odd_value(draw):
    return draw.choice(draw.choice([NUMBERS, NUMBERS, WORDS, OTHER_VALUES]))


def document(draw):
    """A file that is right, but for up to three things."""
    content = {key: draw.sample(good, draw.choice([1, 1, 2])) for key, good in GOOD.items()}
    content |= {key: draw.choice(good) for key, good in OTHERS.items() if draw.random() < 0.3}
    for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
        draw.choice([setting, setting, setting, setting, entry, whole])(content, draw)
    return content


def setting(content, draw):
    """Another value for one setting of one thing that there is."""
    key = draw.choice(list(GOOD))
    member = draw.choice(list(REGISTRIES[key]))
    known = [*setting_types(member), *(["indices"] if key == "datasets" else []), "nonsense"]
    content[key] = [{"name": member.name, draw.choice(known): odd_value(draw)}]


def entry(content, draw):
    key = draw.choice(list(GOOD))
    content[key] = [draw.choice(ODD_NAMES + OTHER_VALUES)]


def whole(content, draw):
    content[draw.choice([*GOOD, *OTHERS, *OTHERS, "defence", 3])] = odd_value(draw)


def written(draw):
    """The document as text; now and then with a scratch in it."""
    text = yaml.safe_dump(document(draw), allow_unicode=True)
    if draw.random() < 0.2:
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice(SCRATCHES) + text[place + draw.choice([0, 1]) :]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@cache
def outcome(trial):
    """What becomes of the first step of a trial."""
    (result,) = run_trials([trial], Conditions(Resources(slots=1)))
    return result.row


def checked(path, folder):
    """What is wrong with a file, or else what is to be run."""
    try:
        todo = plan(load_sweep(path, folder), {})
        choose(todo, ["cpu"], None, None, folder)
    except UserError as error:
        return error.problems, None
    return [], todo


tried = {"refused": 0, "run": 0}


documents = st.randoms(use_true_random=True).map(written)
texts = st.integers(0, 19).flatmap(lambda die: documents if die else st.text(max_size=40))


@settings(max_examples=60, database=None)
@given(text=texts)
def test_a_sweep_file_is_refused_with_lines_or_runs(folder, text):
    refused_or_run(folder, text)


@pytest.mark.long
@settings(max_examples=1000, database=None)
@given(text=texts)
def test_a_thousand_sweep_files_are_refused_with_lines_or_run(folder, text):
    refused_or_run(folder, text)


def refused_or_run(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    problems, todo = checked(path, folder)
    assert all(problem.startswith(f"{path}: ") and "\n" not in problem for problem in problems)
    if todo is None:
        assert problems
    else:
        for kind in todo.kinds:
            names = {name: getattr(kind.example, name) for name in Trial.__dataclass_fields__}
            row = outcome(Trial(**names | {"attack": kind.example.attack.with_budget(1)}))
            assert row.status != "error", f"{row.reason} of {text}"
    tried["refused" if todo is None else "run"] += 1


def test_both_kinds_were_among_them():
    """After one of the tests above."""
    if tried["refused"] + tried["run"]:  # else only this test was selected
        assert tried["refused"] > 15
        assert tried["run"] > 6
