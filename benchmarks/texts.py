"""Compares `dlg-text` with a loop written by hand around PyTorch's L-BFGS, in one process with one thread.

The loop makes the same steps, but computes the scores of every piece at every place, and evaluates the
objective anew where a step begins and ends. The attack also looks up the nearest words at every step, and
whether they are right at every tenth. Rounds alternate.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from measured import here
from torch import Tensor
from torch.nn import functional

from leakbench.bench.attacks import ATTACKS, Case, Resources
from leakbench.bench.attacks.dlg_text import DLGText, _Run
from leakbench.bench.trial import Trial, prepare
from leakbench.core.process import prepare_worker

MODELS = ("bert", "bert(task=mlm)")
DEFENSE = "gaussian(relative=0.1)"  # under which no attack is over early


def main() -> int:
    """Measure, print, and write RUN/texts.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=30, help="of each attack, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="few steps, to check that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    if arguments.small:
        arguments.steps, arguments.rounds = 2, 1
    prepare_worker()
    attack = ATTACKS.parse("dlg-text")
    assert isinstance(attack, DLGText)
    attack = replace(attack, steps=arguments.steps)
    found = {
        **here(),
        "models": {model: compare(attack, model, arguments.rounds) for model in MODELS},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "texts.json").write_text(json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))
    return 0


def compare(attack: DLGText, model: str, rounds: int) -> dict[str, float]:
    """Milliseconds per step of both, and how much faster the attack is."""
    names = {"dataset": "sotu-sample", "model": model, "defense": DEFENSE, "attack": "dlg-text"}
    case, _, _ = prepare(Trial.from_names(names | {"model_seed": 0, "index": 0, "start": 0}), 0, Path("data"))
    hand, own = [], []
    for _ in range(rounds):
        hand.append(seconds(lambda: by_hand(attack, case)) / attack.steps)
        own.append(seconds(lambda: by_attack(attack, case)) / attack.steps)
    return {
        "milliseconds_by_hand": 1e3 * statistics.median(hand),
        "milliseconds": 1e3 * statistics.median(own),
        "ratio": statistics.median(a / b for a, b in zip(hand, own, strict=True)),
    }


def seconds(of: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    of()
    return time.perf_counter() - began


def by_attack(attack: DLGText, case: Case) -> None:
    """All steps of the attack itself."""
    for _ in attack.invert_many(iter([case]), lambda *_: None, Resources()):
        pass


def by_hand(attack: DLGText, case: Case) -> None:
    """The same steps as one would write them."""
    run = _Run(attack, case, "cpu")
    dummy, parameters = run.dummy, list(run.parameters.values())
    optimizer = torch.optim.LBFGS([dummy.variable], max_iter=1, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        with dummy.looked_up_as(dummy.embeddings()):
            loss = functional.cross_entropy(run.layers.model(dummy.known), run.labels)
        own = torch.autograd.grad(loss, parameters, create_graph=True)
        parts = run._parts(dict(zip(run.parameters, own, strict=True)))
        apart = [(parts[name] - b).square().sum() / b.square().sum() for name, b in run.shared.items()]
        return torch.stack(apart).mean()

    def closure() -> float:
        loss = objective()
        (dummy.variable.grad,) = torch.autograd.grad(loss, [dummy.variable])
        return float(loss.detach())

    for _ in range(attack.steps):
        optimizer.step(closure)
        objective()


if __name__ == "__main__":
    raise SystemExit(main())
