"""Fixtures that several test files need."""

import signal
from pathlib import Path

import pytest
import torch
from browsing import browsers
from hypothesis import settings

from leakbench.bench.attacks.optimised import Optimised
from leakbench.bench.trial import Trial
from leakbench.sweeps import checks

# the same cases every time, however slow the machine
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
torch.set_num_threads(1)  # for the fixtures of modules, too, which come before those of tests


LONGEST = (
    "paper",
    "processes",
    "attackers",
    "training",
    "batched",
    "audit",
    "cli",
    "comparison",
    "saved",
    "trial",
    "dlg",
    "survival",
)


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that in the end no worker waits for another."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """Also where a shell started the tests in the background, which lets them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def each_question_once():
    """What takes seconds to find out, and depends on network, attack and shape of the images alone."""

    def remember(owner, name, about):
        ask, known = getattr(owner, name), {}

        def answer(*question):
            if about(*question) is None:
                return ask(*question)
            if about(*question) not in known:
                found = ask(*question)
                known[about(*question)] = found if isinstance(found, int) else list(found)
            return known[about(*question)]

        patch.setattr(owner, name, answer)

    def of_network(model, source, batch, labels, batched, build):
        if getattr(build.func, "__self__", None) is not model or ":" in str(model):
            return None  # layers that a defense adds, or a file, which may change
        return str(model), source.modality.name, *build.args, batch.shape, batched

    def of_attack(attack, case, kind="cpu"):
        network = type(case.model), str(case.model)
        return type(attack), str(attack.with_budget(1)), *network, case.spec, str(case.protocol), kind

    with pytest.MonkeyPatch.context() as patch:
        remember(checks, "model_problems", of_network)
        remember(Optimised, "bytes_per_slot", of_attack)
        yield


@pytest.fixture
def make_trial():
    """A trial by names; what is not given is the plainest."""

    def make(**names):
        plain = {
            "dataset": "cifar10-sample",
            "index": 0,
            "model": "lenet",
            "model_seed": 0,
            "attack": "dlg(steps=2)",
            "defense": "none",
            "start": 0,
        }
        return Trial.from_names(plain | names)

    return make


@pytest.fixture
def without_rehearsal(monkeypatch):
    """Spares the process of its own in which a user's code is first checked, where that is not the point."""
    monkeypatch.setattr("leakbench.sweeps.rehearsal.rehearse", lambda *_arguments, **_options: None)


@pytest.fixture
def write(tmp_path):
    """Writes a file under the test's own folder and returns its path."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


@pytest.fixture(scope="module")
def browser():
    """A browser, if one is installed."""
    yield from browsers()
