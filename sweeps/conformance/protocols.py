"""Whether a protocol keeps its contract: counts of images and rounds, and a gradient shared under it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from leakbench.bench.attacks import NotApplicableError
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.protocols import PROTOCOLS, Protocol
from leakbench.bench.trial import Trial, prepare
from leakbench.core.configured import SettingError
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

DATASET = "mnist-5k"
COUNTS = ("batch_size", "rounds")
VICTIM = {
    "dataset": DATASET, "index": 0, "model": "mlp(hidden=[32])", "model_seed": 0, "start": 0,
    "attack": "dlg", "defense": "none",
}  # fmt: skip


def findings(protocol: Protocol) -> Iterator[Finding]:
    """Every check of a protocol, one after the other."""
    return tried(protocol, _attempts(protocol))


def _attempts(protocol: Protocol) -> Attempts:
    yield SETTINGS, partial(read_back, protocol, PROTOCOLS)
    yield "whole numbers of images and of rounds", partial(_counted, protocol)
    yield "a SettingError for a count of 0", partial(_refused, protocol)
    yield "a gradient that a client shares", partial(_shared, protocol)


def _counted(protocol: Protocol) -> str | None:
    for name in COUNTS:
        count = getattr(protocol, name)
        if type(count) is not int or count < 1:
            return f"expected a whole number >= 1 as {name}, got {count!r}"
    return None


def _refused(protocol: Protocol) -> str | None:
    for name in COUNTS:
        try:
            replace(protocol, **{name: 0})
        except SettingError:
            continue
        return f"expected a SettingError for {name}=0, got none; annotate it with leakbench.Count"
    return None


def _shared(protocol: Protocol) -> str | None:
    there = len(open_dataset(DATASETS.parse(DATASET), Path()))
    if protocol.batch_size > there:
        raise NotApplicableError(f"the check has {there} images, and it needs {protocol.batch_size}")
    case, victim, _ = prepare(Trial.from_names({**VICTIM, "protocol": str(protocol)}), 0, Path())
    there = 0 if victim.batch is None else len(victim.batch)
    if case.spec.count != there:
        return f"expected {case.spec.count} images behind a gradient, got {there}"
    return None
