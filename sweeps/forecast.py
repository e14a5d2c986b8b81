"""How long a sweep takes, and how much memory and disk: predicted from a short measured probe."""

import time
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import NamedTuple

from leakbench.bench.attacks import Resources, Status
from leakbench.bench.datasets import open_dataset
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import Trial
from leakbench.core.errors import UserError
from leakbench.core.process import prepare_worker
from leakbench.core.words import in_words
from leakbench.sweeps.plan import Kind, Plan
from leakbench.sweeps.resources import GIB, Memory

PROBE_STEPS = 3  # outer steps for which every kind of batch is measured
ROW_BYTES = 400  # of a row, a trace's key and their share of a file


@dataclass(frozen=True)
class Forecast:
    """What a sweep takes at most: if every trial takes all its steps."""

    seconds: float
    workers: int
    memory: int  # bytes, of all batches together
    disk: int  # bytes

    def __str__(self) -> str:
        return (
            f"time     {in_words(self.seconds)} at most: {self.workers} worker{'s' * (self.workers > 1)},"
            " every trial with all its steps\n"
            f"memory   {self.memory / GIB:.2f} GiB for the batches, besides what each worker loads\n"
            f"disk     {self.disk / 2**20:.0f} MiB at most"
        )


class Cost(NamedTuple):
    """Seconds of one worker."""

    step: float
    trial: float  # besides its steps

    def of(self, kind: Kind) -> float:
        """For all trials of a kind."""
        return kind.steps * self.step + kind.trials * self.trial


def forecast(todo: Plan, resources: Resources, memory: Memory, workers: int, data_root: Path) -> Forecast:
    """Measure a few steps of every kind of batch on this machine, and add up.

    Args:
        todo: the trials to run.
        resources: resources of each worker; the probe runs on its device.
        memory: memory of each worker's batch.
        workers: how many workers share the trials, each as fast as the one that is measured.
        data_root: folder of the datasets that are not bundled with the project.
    """
    prepare_worker()
    conditions = Conditions(resources, data_root, todo.sweep.snapshot_every)
    costs: dict[tuple[object, ...], Cost] = {}
    seconds = 0.0
    for kind in todo.kinds:
        about = _about(kind.example)
        if about not in costs:
            costs[about] = _measured(kind, conditions)
        seconds += costs[about].of(kind)
    disk = sum(_disk(kind, conditions) for kind in todo.kinds)
    return Forecast(seconds / workers, workers, workers * memory.needed, disk)


def _about(trial: Trial) -> tuple[object, ...]:
    """What decides how long a trial's steps take: rates and the like of its protocol do not."""
    protocol, layers = trial.protocol, trial.group[-1]  # those that the defense adds
    size = protocol.name, protocol.images, protocol.steps, protocol.rounds
    return trial.dataset, trial.model, trial.attack, *size, layers


def _measured(kind: Kind, conditions: Conditions) -> Cost:
    """What one worker takes for the trials of a kind."""
    attack = kind.example.attack.with_budget(PROBE_STEPS)
    together = conditions.resources.slots if attack.in_lock_step else 1  # others run one by one
    trials = [
        replace(kind.example, attack=attack, start=start) for start in range(min(together, kind.trials))
    ]
    began = time.perf_counter()
    rows = [result.row for result in run_trials(trials, conditions)]
    whole = time.perf_counter() - began
    failed = [row.reason for row in rows if not Status(row.status).has_result]
    if failed:
        where = f"{kind.example.dataset} {kind.example.index}, {kind.example.defense}"
        raise UserError(f"{where}: nothing can be predicted, because its probe failed: {failed[0]}")
    attacking = sum(row.seconds for row in rows)
    each_step = attacking / max(sum(row.iterations or 0 for row in rows), 1)
    return Cost(each_step, (whole - attacking) / len(rows))


def _disk(kind: Kind, conditions: Conditions) -> int:
    each = open_dataset(kind.example.dataset, conditions.data_root).stored_bytes
    budget, every = kind.example.attack.budget, conditions.snapshot_every
    examples = kind.example.protocol.images * (1 + (ceil(budget / every) + 1 if every else 0))
    return kind.trials * (ROW_BYTES + examples * each + 8 * (budget + 1))


def workers_of(text: str, device: str) -> int:
    """How many workers `gpus=8` or `cores=64` stands for.

    Raises:
        UserError: not of that form, or of a kind of device that cannot be measured here.
    """
    kind, _, number = text.partition("=")
    if kind not in ("gpus", "cores") or not number.isdecimal() or int(number) < 1:
        raise UserError(f"--plan: expected gpus=N or cores=N, got {text!r}")
    here = "cores" if device == "cpu" else "gpus"
    if kind != here:
        option = "--device cpu" if kind == "cores" else "a machine with a GPU"
        text = f"--plan {text}: the probe runs on {device}, and says nothing about {kind}"
        raise UserError(f"{text}; use {option}")
    return int(number)
