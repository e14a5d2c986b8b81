"""Whether an attack keeps its contract, tried on gradients of several models and defenses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from leakbench.bench.attacks import ATTACKS, Attack, Case, Found, Resources
from leakbench.bench.modalities import IMAGES, TEXTS
from leakbench.bench.trial import Trial, prepare
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

STEPS = 3  # of an attack that iterates: enough to see what it returns
PLAIN = {
    IMAGES: {"dataset": "mnist-sample", "model": "mlp(hidden=[32])"},
    TEXTS: {"dataset": "sotu-sample", "model": "bert(hidden=128, heads=2)"},
}
OTHERS = {
    IMAGES: {"a LeNet": {"dataset": "cifar10-sample", "model": "lenet"}},
    TEXTS: {"a BERT that guesses words": {"model": "bert(hidden=128, heads=2, task=mlm)"}},
}
PLAINEST = {IMAGES: "fully connected layers", TEXTS: "a BERT"}
DEFENDED = {
    "": "none",
    ", under noise": "gaussian(std=0.01)",
    ", half pruned": "prune(ratio=0.5)",
    ", in 16 bits": "float16",
}


def findings(attack: Attack) -> Iterator[Finding]:
    """Every check of an attack, one after the other; an iterating one takes STEPS steps."""
    return tried(attack, _attempts(attack))


def _attempts(attack: Attack) -> Attempts:
    yield SETTINGS, partial(read_back, attack, ATTACKS)
    short = attack.with_budget(STEPS)
    for what, names in OTHERS[attack.modality].items():
        yield f"the gradient of {what}", partial(_attacked, short, names)
    for how, defense in DEFENDED.items():
        what = f"the gradient of {PLAINEST[attack.modality]}{how}"
        yield what, partial(_attacked, short, {"defense": defense})
    yield "a gradient of zeros", partial(_zeros, short)
    yield "several gradients, each answered once", partial(_several, short)
    again = f"the same {attack.modality.name} from the same start, and no other randomness"
    yield again, partial(_repeated, short)
    yield "an unchanged model and gradient", partial(_untouched, short)


def case_of(attack: Attack, number: int = 0, **names: str) -> Case:
    """A copy of what an attack gets of a victim; what is not named is the plainest."""
    usual = {"index": number, "model_seed": 0, "start": 0, "defense": "none"}
    known = {**PLAIN[attack.modality], **usual, **names}
    return prepare(Trial.from_names({**known, "attack": str(attack)}), number, Path())[0].copy()


def answers(attack: Attack, cases: Sequence[Case]) -> dict[int, Found]:
    """What an attack finds in each case.

    Raises:
        ContractError: it breaks its contract.
    """
    found = {}
    for number, each in attack.run(iter(cases), lambda *_: None, Resources(slots=len(cases))):
        if isinstance(each, Exception):
            raise each
        found[number] = each
    return found


def _attacked(attack: Attack, names: Mapping[str, str]) -> None:
    answers(attack, [case_of(attack, 0, **names)])


def _zeros(attack: Attack) -> None:
    case = case_of(attack)
    shared = {name: torch.zeros_like(each) for name, each in case.shared.items()}
    answers(attack, [replace(case, shared=shared)])


def _several(attack: Attack) -> None:
    answers(attack, [case_of(attack, number) for number in range(3)])


def _repeated(attack: Attack) -> str | None:
    before = torch.random.get_rng_state()
    first, again = (answers(attack, [case_of(attack)])[0] for _ in range(2))
    if not torch.equal(first.x, again.x):
        same = f"expected the same {attack.modality.name} again, got others"
        return f"{same}; draw from `case.generator` alone"
    if not torch.equal(before, torch.random.get_rng_state()):
        return "used PyTorch's global random generator; draw only from `case.generator`"
    return None


def _untouched(attack: Attack) -> str | None:
    given = case_of(attack)
    case = given.copy()
    answers(attack, [case])
    if any(not torch.equal(each, case.shared[name]) for name, each in given.shared.items()):
        return "changed the shared gradient in place; work on `case.copy()`"
    weights = case.model.state_dict()
    if any(not torch.equal(each, weights[name]) for name, each in given.model.state_dict().items()):
        return "changed the model in place; work on `case.copy()`"
    return None
