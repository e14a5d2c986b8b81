"""How wide a batch is, and whether it is compiled: decided before the start, and announced."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from leakbench.bench.attacks import Attack, Case, Knows, Resources
from leakbench.bench.attacks.batched import GRAIN, OUT_OF_MEMORY, is_out_of_memory
from leakbench.bench.attacks.memory import text_bytes
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities import TEXTS
from leakbench.bench.trial import Trial, spec_of, victim_of
from leakbench.core.errors import UserError
from leakbench.sweeps.plan import Plan

WIDEST = {"cpu": 64, "cuda": 1024}  # slots: wider batches gain little (docs/LOG.md)
WORTH_COMPILING = 2_000_000  # evaluations of the whole sweep; below, compiling costs more than it saves
USABLE = {"cpu": 0.8, "cuda": 0.5}  # of what is free; a GPU's memory is handed out in large pieces
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """What the batches will take, and what there is."""

    needed: int  # bytes of each worker's batch, or of its text trial; 0 where neither is known
    free: int | None  # bytes that are free for it; None where this machine does not tell

    def __str__(self) -> str:
        if not self.needed:
            return ""
        needed = f"{self.needed / GIB:.2f} GiB"
        return needed if self.free is None else f"{needed} of {max(self.free, 0) / GIB:.2f} free"


def choose(
    todo: Plan, devices: list[str], free: int | None, slots: int | None, data_root: Path
) -> tuple[Resources, Memory]:
    """The width that suits what there is to do and the memory there is, and whether to compile.

    Args:
        todo: what is to be run, and of which sweep: a resumed one is compiled if and only if the whole was.
        devices: of each worker, such as `cpu` or `cuda:0`.
        free: bytes that each worker may take for its batch; None where that is not known.
        slots: the width that was asked for, if any.
        data_root: folder of the datasets that are not bundled with the project.
    """
    kind = torch.device(devices[0]).type
    cases = examples((kind.example for kind in todo.kinds), data_root)
    try:
        each = max((attack.bytes_per_slot(case, kind) for attack, case in cases), default=0)
    except OUT_OF_MEMORY as error:
        if not is_out_of_memory(error):
            raise
        text = f"{todo.sweep.file}: expected memory for batches of {GRAIN} trials, found too little"
        raise UserError(f"{text}; choose smaller models or images, or `engine: reference`") from error
    if slots is None:
        # on a GPU the last digits depend on the width, which must not depend on how much is left
        count = len(todo) if kind == "cpu" else len(todo.sweep)
        share = GRAIN * math.ceil(count / len(devices) / GRAIN)
        fitting = WIDEST[kind] if free is None or not each else int(USABLE[kind] * free / each)
        slots = max(1, min(WIDEST[kind], share, fitting))
        slots = slots // GRAIN * GRAIN or slots
    attacks = todo.sweep.attacks
    evaluations = sum(len(todo.sweep) // len(attacks) * _in_a_batch(choice.value) for choice in attacks)
    compiled = kind == "cpu" and evaluations >= WORTH_COMPILING
    alone = max((one_by_one_bytes(kind.example, data_root) for kind in todo.kinds), default=0)
    return Resources(devices[0], slots, compiled), Memory(max(slots * each, alone), free)


def one_by_one_bytes(trial: Trial, data_root: Path) -> int:
    """What trials like this one take if they are on texts, which are attacked one by one; 0 on images."""
    if trial.attack.modality is not TEXTS:
        return 0
    victim = victim_of(trial, data_root)
    network = victim.network_under(trial.defense)
    return text_bytes(network, spec_of(victim.source, trial.protocol, trial.model))


def _in_a_batch(attack: Attack) -> int:
    """The most evaluations that one trial of an attack can take in a batch."""
    return attack.evaluations if attack.in_lock_step else 0


def examples(trials: Iterable[Trial], data_root: Path) -> list[tuple[Attack, Case]]:
    """An attack and a case for it from each of the trials whose attack runs in lock step."""
    found = []
    for trial in trials:
        if trial.attack.in_lock_step:
            victim = victim_of(trial, data_root)
            network = victim.network_under(trial.defense).eval()
            shared = {name: torch.zeros_like(each) for name, each in trained_parameters(network)}
            known = trial.protocol if Knows.PROTOCOL in trial.attack.knows else None
            spec = spec_of(victim.source, trial.protocol, trial.model)
            found.append((trial.attack, Case(0, network, shared, spec, protocol=known)))
    return found
