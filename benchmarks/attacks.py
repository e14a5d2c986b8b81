"""Compares each attack in the engine with a loop written by hand, in one process.

The loop attacks one gradient at a time: it computes the objective with plain autograd and minimises it with
PyTorch's L-BFGS or Adam, or with L-BFGS with halving in its two-loop recursion. Both use one thread, and
their rounds alternate. Speed is measured in evaluations of the objective, and reported as trials per hour
with the most evaluations that a trial takes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from measured import here
from torch import Tensor

from leakbench.bench.attacks import ATTACKS, Case, Resources
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.attacks.optimised import Optimised
from leakbench.bench.attacks.reference import Dummy
from leakbench.bench.attacks.regularised import Regularised
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.trial import Trial, prepare
from leakbench.core.process import prepare_worker

ATTACKERS = ("dlg", "idlg", "cosine", "cosine(optimizer=adam)", "adaptive")
Objective = Callable[[], Tensor]  # evaluates, and stores the gradient in the variable


def main() -> int:
    """Measure, print, and write RUN/attacks.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=200, help="of each gradient, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="few evaluations, to check that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    if arguments.small:
        arguments.slots, arguments.evaluations, arguments.rounds = 8, 5, 1
    prepare_worker()
    found = {
        **here(),
        "slots": arguments.slots,
        "attacks": {name: compare(name, arguments) for name in ATTACKERS},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "attacks.json").write_text(json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))
    return 0


def compare(name: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Trials per hour of both, and the speed-up of the engine."""
    attack = ATTACKS.parse(name)
    assert isinstance(attack, Optimised)
    cases = [case_of(name, number) for number in range(arguments.slots)]
    batch = filled(attack, cases, arguments.slots)
    step = parts(batch)
    step()  # records its operations
    by_hand(attack, cases[0], 2)
    hand, engine = [], []
    for _ in range(arguments.rounds):
        hand.append(by_hand(attack, cases[0], arguments.evaluations))
        began = time.perf_counter()
        for _ in range(arguments.evaluations):
            step()
        engine.append(arguments.slots * arguments.evaluations / (time.perf_counter() - began))
    most = attack.evaluations
    return {
        "trials_per_hour_by_hand": 3600 * statistics.median(hand) / most,
        "trials_per_hour": 3600 * statistics.median(engine) / most,
        "ratio": statistics.median(b / a for a, b in zip(hand, engine, strict=True)),
        **{f"milliseconds_{part}": value for part, value in break_down(batch, arguments).items()},
    }


def case_of(attack: str, number: int) -> Case:
    """The case of a CIFAR-10 sample whose gradient is half pruned."""
    names = {"dataset": "cifar10-sample", "model": "lenet", "model_seed": 0, "defense": "prune(ratio=0.5)"}
    place = {"index": number % 20, "start": number // 20}
    return prepare(Trial.from_names(names | place | {"attack": attack}), number, Path("data"))[0]


def filled(attack: Optimised, cases: list[Case], slots: int) -> Batch:
    """A batch with a run in each slot; no stage ends during the measurement."""
    runs = list(islice(Feed(attack, iter(cases)), slots))
    batch = Batch(attack, runs[0], Resources(slots=slots))
    for slot, run in enumerate(runs):
        batch.put(slot, run)
    return batch


def parts(batch: Batch) -> Callable[[], None]:
    """A function that runs one iteration of the engine, without checking whether stages end."""

    def step() -> None:
        loss, gradient = batch.closure(batch.stepper.x)
        better = loss < batch.best_loss
        batch.best_loss.copy_(torch.where(better, loss, batch.best_loss))
        batch.best.copy_(torch.where(better[:, None], batch.stepper.x, batch.best))
        batch.stepper.arrive(loss, gradient)
        batch.stepper.depart(loss, gradient)

    return step


def break_down(batch: Batch, arguments: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per evaluation and slot in the closure, the stepper and the rest."""
    spent = {"closure": 0.0, "stepper": 0.0}
    began = time.perf_counter()
    for _ in range(arguments.evaluations):
        first = time.perf_counter()
        loss, gradient = batch.closure(batch.stepper.x)
        second = time.perf_counter()
        batch.best.copy_(torch.where((loss < batch.best_loss)[:, None], batch.stepper.x, batch.best))
        third = time.perf_counter()
        batch.stepper.arrive(loss, gradient)
        batch.stepper.depart(loss, gradient)
        spent["closure"] += second - first
        spent["stepper"] += time.perf_counter() - third
    spent["rest"] = time.perf_counter() - began - sum(spent.values())
    return {name: 1e3 * each / arguments.evaluations / arguments.slots for name, each in spent.items()}


def by_hand(attack: Optimised, case: Case, evaluations: int) -> float:
    """Evaluations per second of a plain loop over one gradient."""
    dummy = Dummy(attack, case, next(iter(attack.candidates(case))), "cpu")
    began = time.perf_counter()
    count = sum(1 for _ in islice(loop(attack, dummy), evaluations))
    return count / (time.perf_counter() - began)


def loop(attack: Optimised, dummy: Dummy) -> Iterator[None]:
    """Optimise for ever; yield after every evaluation."""
    if isinstance(attack, DLG):
        yield from _pytorch(torch.optim.LBFGS(dummy.variables, **asdict(attack.lbfgs)), dummy)
    elif isinstance(attack, Regularised) and attack.settings().get("optimizer") != "adam":
        yield from _halving(dummy, attack.history)
    else:
        yield from _pytorch(torch.optim.Adam(dummy.variables, lr=0.1), dummy)


def _pytorch(optimizer: torch.optim.Optimizer, dummy: Dummy) -> Iterator[None]:
    counted: list[None] = []

    def closure() -> float:
        counted.append(None)
        return float(dummy.closure())

    while True:
        optimizer.step(closure)
        yield from counted
        counted.clear()


def _halving(dummy: Dummy, memory: int) -> Iterator[None]:
    (variable,) = dummy.variables
    pairs: list[tuple[Tensor, Tensor]] = []
    value, slope = _evaluate(dummy)
    yield
    while True:
        base, move, length = variable.detach().clone(), _direction(slope, pairs), 1.0
        while True:
            variable.data.copy_(base + length * move)
            there, slope_there = _evaluate(dummy)
            yield
            if there < value or length < 1e-6:
                break
            length /= 2
        s, y = length * move, slope_there - slope
        if torch.sum(s * y) > 1e-10:
            pairs = [*pairs[1 - memory :], (s, y)]
        value, slope = there, slope_there


def _evaluate(dummy: Dummy) -> tuple[float, Tensor]:
    loss = float(dummy.closure())
    slope = dummy.variables[0].grad
    assert slope is not None
    return loss, slope


def _direction(slope: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Two-loop recursion: Nocedal and Wright 2006, algorithm 7.4."""
    found, steps = -slope, []
    for s, y in reversed(pairs):
        steps.append(torch.sum(s * found) / torch.sum(s * y))
        found = found - steps[-1] * y
    if not pairs:
        return found * min(1.0, 1 / float(slope.abs().sum()))
    s, y = pairs[-1]
    found = found * torch.sum(s * y) / torch.sum(y * y)
    for s, y in pairs:
        found = found + s * (steps.pop() - torch.sum(y * found) / torch.sum(s * y))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
