"""Compares the reference engine with the batched engine, on the same trials.

`make bench` runs this. Each worker is a process with one thread, as in a sweep. Rounds of the two engines
alternate, so that a slowdown of the machine affects both. The reference engine runs only some of the trials;
speed is measured in outer steps, and reported as trials of 300 outer steps per hour. It includes the time
that a trial takes outside the attack, which matters more for faster devices and fewer steps.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from measured import here

from leakbench.bench.attacks import Resources, Status
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import Trial, prepare
from leakbench.core.process import prepare_worker

TIMED = 30  # iterations
DEFENSES = [
    "none",
    *(f"{noise}(variance={v})" for noise in ("gaussian", "laplacian") for v in (1e-4, 1e-3, 1e-2, 1e-1)),
    "float16",
    "bfloat16",
    *(f"prune(ratio={ratio})" for ratio in (0.01, 0.1, 0.2, 0.3, 0.5, 0.7)),
]  # Figure 7


def trials(count: int, steps: int, engine: str, first: int = 0) -> list[Trial]:
    """Trials on CIFAR-10 samples with the defenses of Figure 7, all defenses of an image in a row."""
    cells = islice(product(range(20), DEFENSES), first, first + count)
    return [
        Trial.from_names(
            {
                "dataset": "cifar10-sample", "index": index, "model": "lenet", "model_seed": 0,
                "attack": f"dlg(steps={steps}, engine={engine}, stop_loss=0, pixel_limit=1e30)",
                "defense": defense, "start": 0,
            }
        )
        for index, defense in cells
    ]  # fmt: skip


def run(engine: str, resources: Resources, count: int, steps: int, first: int) -> tuple[int, float]:
    """In a worker: (outer steps taken, seconds) of some trials, including their preparation."""
    prepare_worker()
    own = trials(count, steps, engine, first)
    began = time.perf_counter()
    results = list(run_trials(own, Conditions(resources)))
    seconds = time.perf_counter() - began
    failed = [result.row.reason for result in results if not Status(result.row.status).has_result]
    assert not failed, failed[0]
    return sum(result.row.iterations or 0 for result in results), seconds


def compare(pool: ProcessPoolExecutor, workers: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both engines in alternating rounds; return medians over the rounds."""
    batched = Resources(arguments.device, arguments.slots, compiled=arguments.compiled)
    work = {
        "reference": (Resources(arguments.device), 4 if arguments.device == "cpu" else 1),
        "batched": (batched, arguments.slots),
    }
    for engine, (resources, count) in work.items():  # compilation and first calls are not timed
        _together(pool, workers, engine, resources, count, 1)
    speeds: dict[str, list[float]] = {engine: [] for engine in work}
    for _ in range(arguments.rounds):
        for engine, (resources, count) in work.items():
            speeds[engine].append(_together(pool, workers, engine, resources, count, arguments.steps))
    ratios = [b / r for b, r in zip(speeds["batched"], speeds["reference"], strict=True)]
    return {
        "outer_steps_per_second": {engine: statistics.median(each) for engine, each in speeds.items()},
        "trials_per_hour": {engine: 3600 * statistics.median(each) / 300 for engine, each in speeds.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def _together(
    pool: ProcessPoolExecutor, workers: int, engine: str, resources: Resources, count: int, steps: int
) -> float:
    """Outer steps per second of all workers together, each with its own trials."""
    jobs = [pool.submit(run, engine, resources, count, steps, worker * count) for worker in range(workers)]
    done = [job.result() for job in jobs]
    return sum(taken for taken, _ in done) / max(seconds for _, seconds in done)


def break_down(resources: Resources, steps: int, ticks: int) -> dict[str, float]:
    """Milliseconds per iteration and trial in the closure, the recursion and the rest of the batched engine.

    Averages TIMED iterations after `ticks` others; the history is full after 110.
    """
    prepare_worker()
    cases = [
        prepare(trial, n, Path("data"))[0]
        for n, trial in enumerate(trials(resources.slots, steps, "batched"))
    ]
    attack = trials(1, steps, "batched")[0].attack
    runs = list(Feed(attack, iter(cases)))  # type: ignore[arg-type]
    batch = Batch(attack, runs[0], resources)  # type: ignore[arg-type]
    for slot, each in enumerate(runs):
        batch.put(slot, each)
    spent = {"closure": 0.0, "recursion": 0.0}
    plain_closure, plain_depart = batch.closure.__call__, batch.stepper.depart

    def timed(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            _wait(resources.device)
            began = time.perf_counter()
            result = function(*arguments)
            _wait(resources.device)
            spent[name] += time.perf_counter() - began
            return result

        return call

    batch.closure = timed("closure", plain_closure)
    batch.stepper.depart = timed("recursion", plain_depart)  # type: ignore[method-assign]
    iterations, began = 0, 0.0
    for tick in range(TIMED + ticks):
        if tick == ticks:
            spent.update(closure=0.0, recursion=0.0)
            iterations, began = 0, time.perf_counter()
        batch.step(lambda *_: None)
        iterations += resources.slots
    total = time.perf_counter() - began
    parts = {**spent, "rest": total - sum(spent.values())}
    return {name: 1e3 * seconds / iterations for name, seconds in parts.items()}


def memory_limit(resources: Resources, milliseconds: float) -> dict[str, float]:
    """How close an iteration of `milliseconds` is to the least time for reading the history twice."""
    prepare_worker()
    attack = trials(1, 1, "batched")[0].attack
    variables = 3 * 32 * 32 + 10
    traffic = 2 * 2 * attack.lbfgs.history_size * variables * 4  # type: ignore[attr-defined]  # bytes, S and Y twice
    room = torch.ones(2**28 // 4, device=resources.device)  # 256 MiB, larger than any cache
    seconds = []
    for _ in range(7):
        _wait(resources.device)
        began = time.perf_counter()
        room.sum()
        _wait(resources.device)
        seconds.append(time.perf_counter() - began)
    bandwidth = room.nbytes / statistics.median(seconds)
    least = 1e3 * traffic / bandwidth
    return {"gigabytes_per_second": bandwidth / 1e9, "milliseconds": least, "fraction": least / milliseconds}


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def growth(pool: ProcessPoolExecutor, resources: Resources, counts: Sequence[int]) -> dict[str, Any]:
    """The seconds for `counts` trials of one outer step on one worker, and the time outside attacks.

    One-time costs of a batch, such as recording its operations, are in all of these seconds, but not in
    the milliseconds outside the attack, which are those of each further trial.
    """
    *_, some, many = counts
    measured = {count: pool.submit(run_many, resources, count).result() for count in counts}
    more = measured[many][1] - measured[some][1]
    return {
        "seconds_for_trials": {str(count): seconds for count, (seconds, _) in measured.items()},
        "milliseconds_outside_the_attack": 1e3 * more / (many - some),
    }


def run_many(resources: Resources, count: int) -> tuple[float, float]:
    """In a worker: the seconds for `count` trials of one step, and the part of them outside the attack.

    Images and defenses repeat with new starts.
    """
    prepare_worker()
    own = []
    for number, trial in zip(range(count), trials(340, 1, "batched") * 4, strict=False):
        names = trial.names() | {"start": number // 340}
        own.append(Trial.from_names(names))
    began = time.perf_counter()
    results = list(run_trials(own, Conditions(resources)))
    seconds = time.perf_counter() - began
    assert len(results) == count
    return seconds, seconds - sum(result.row.seconds for result in results)


def draw(found: dict[str, Any]) -> Figure:
    """Draw the trials per hour of both engines, and the parts of an iteration of the batched engine."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    for place, cell in enumerate(found["workers"].values()):
        for shift, (engine, grey) in enumerate((("reference", "0.75"), ("batched", "0.25"))):
            value = cell["trials_per_hour"][engine]
            left.barh(
                place + 0.38 * shift, value, height=0.36, color=grey, label=engine if place == 0 else None
            )
            left.annotate(f" {value:.0f}", (value, place + 0.38 * shift), va="center", fontsize=8)
    labels = [f"{workers} worker(s)\n{cell['ratio']:.1f}x" for workers, cell in found["workers"].items()]
    left.set_yticks([place + 0.19 for place in range(len(labels))], labels)
    left.set_xlabel("trials of 300 steps per hour")
    left.margins(x=0.15)
    left.legend(fontsize=8, frameon=False, loc="lower right")
    bottom = 0.0
    for (name, value), grey in zip(found["milliseconds"].items(), ("0.3", "0.6", "0.85"), strict=True):
        right.bar(0, value, bottom=bottom, color=grey, label=f"{name} {value:.2g}")
        bottom += value
    right.set(xticks=[], ylabel="ms per iteration and trial, batched", xlim=(-0.6, 2.6))
    right.legend(fontsize=8, frameon=False, loc="center right")
    return figure


def main() -> int:
    """Measure, print, and write RUN/engine.json and RUN/engine.png."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slots", type=int, default=None)
    parser.add_argument("--steps", type=int, default=40, help="outer steps per trial (20 iterations each)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="without torch.compile")
    parser.add_argument("--small", action="store_true", help="few trials, to check that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    arguments = parser.parse_args()
    if arguments.small:
        arguments.slots, arguments.steps, arguments.rounds, arguments.plain = 8, 1, 1, True
    ticks, counts = (5, (8, 16)) if arguments.small else (110, (64, 256, 1024))
    arguments.compiled = arguments.device == "cpu" and not arguments.plain
    arguments.slots = arguments.slots or (64 if arguments.device == "cpu" else 1024)
    matplotlib.use("Agg")
    resources = Resources(arguments.device, arguments.slots, arguments.compiled)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        workers = {
            str(n): compare(pool, n, arguments) for n in ((1, 2) if arguments.device == "cpu" else (1,))
        }
        place = here()
        found = {
            **place,
            "machine": f"{place['machine']}, device {arguments.device}",
            "slots": arguments.slots,
            "compiled": arguments.compiled,
            "workers": workers,
            "ratio": {n: cell["ratio"] for n, cell in workers.items()},
            "milliseconds": pool.submit(break_down, resources, 20, ticks).result(),
            **growth(pool, resources, counts),
        }
        whole = sum(found["milliseconds"].values())
        found["memory_limit"] = pool.submit(memory_limit, resources, whole).result()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "engine.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(found).savefig(arguments.out / "engine.png", dpi=160)
    report(found, arguments.out)
    return 0


def report(found: dict[str, Any], out: Path) -> None:
    """Print the results."""
    compiled = ", compiled" if found["compiled"] else ""
    print(f"{found['machine']}, torch {found['versions']['torch']}, {found['slots']} slots{compiled}")
    for workers, cell in found["workers"].items():
        speeds = cell["trials_per_hour"]
        low, high = cell["ratio_range"]
        print(
            f"{workers} worker(s): reference {speeds['reference']:.0f}, batched {speeds['batched']:.0f}"
            f" trials of 300 steps per hour: {cell['ratio']:.2f}x ({low:.2f}-{high:.2f})"
        )
    if len(found["workers"]) == 2:
        one, two = (cell["trials_per_hour"]["batched"] for cell in found["workers"].values())
        print(f"2 workers are {two / one:.2f} times as fast as 1")
    parts = ", ".join(f"{name} {value:.3g}" for name, value in found["milliseconds"].items())
    limit = found["memory_limit"]
    print(f"ms per iteration and trial: {parts}")
    print(
        f"reading the history twice takes {limit['milliseconds']:.3g} ms"
        f" at {limit['gigabytes_per_second']:.0f} GB/s: {limit['fraction']:.0%} of the limit is reached"
    )
    seconds = ", ".join(f"{count}: {value:.1f}" for count, value in found["seconds_for_trials"].items())
    print(f"seconds by number of trials of one step: {seconds}")
    print(f"ms per trial outside the attack: {found['milliseconds_outside_the_attack']:.2f}")
    print(f"wrote {out / 'engine.json'} and {out / 'engine.png'}")


if __name__ == "__main__":
    sys.exit(main())
