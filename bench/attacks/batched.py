"""The batched engine: many trials in lock step, each in a slot of its own.

A slot whose trial has ended takes the next case, so no step waits for the slowest trial. Shapes do
not change, and the arithmetic of a slot does not depend on what is in the others.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.attacks.base import Case, Found, Observer, Resources, Status
from bench.attacks.closure import BatchClosure
from bench.attacks.memory import held_bytes
from bench.lbfgs import LockStepLBFGS

if TYPE_CHECKING:
    from bench.attacks.dlg import DLG

log = logging.getLogger("leakbench")
GRAIN = 8  # slots: no batch is made narrower than this


def run(
    attack: "DLG", cases: Iterator[Case], observe: Observer, resources: Resources
) -> Iterator[tuple[int, Found]]:
    """See `Attack.invert_many`; out of memory, it starts what is unfinished again in half the slots."""
    while first := list(islice(cases, resources.slots)):
        unfinished = {case.number: case for case in first}
        try:
            for number, found in _run(attack, first, cases, unfinished, observe, resources):
                del unfinished[number]
                yield number, found
            return
        except Exception as error:
            if not is_out_of_memory(error) or resources.slots == 1:
                raise
        # beyond the handler, where the error and the tensors in its traceback are gone
        slots = resources.slots // 2
        log.warning("out of memory with %d slots, going on with %d", resources.slots, slots)
        resources = replace(resources, slots=slots)
        cases = chain(unfinished.values(), cases)
        torch.cuda.empty_cache()


def _run(  # a batch, from its first cases until no case is left
    attack: "DLG",
    first: list[Case],
    cases: Iterator[Case],
    unfinished: dict[int, Case],
    observe: Observer,
    resources: Resources,
) -> Iterator[tuple[int, Found]]:
    batch = Batch(attack, first[0], resources)
    for slot, case in enumerate(first):
        batch.put(slot, case)
    while batch.live:
        for slot, number, found in batch.step(observe):
            yield number, found
            for case in islice(cases, 1):
                unfinished[case.number] = case
                batch.put(slot, case)
        batch.narrow()


def is_out_of_memory(error: Exception) -> bool:
    """Of a GPU, or of this process."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@dataclass
class Occupant:
    """The trial in a slot."""

    number: int
    history: list[float]
    clock: float  # of the batch, when it came


class Batch:
    """Slots, their trials, and the optimiser that moves all of them."""

    def __init__(self, attack: "DLG", example: Case, resources: Resources):
        self.attack = attack
        start = attack.start_of(example)
        self.shape, self.pixels = start.images.shape, start.images.numel()
        slots, device = resources.slots, torch.device(resources.device)
        self.closure = BatchClosure(example, start.images, attack.pixels, slots, device, resources.compiled)
        size, dtype = self.pixels + start.label_logits.numel(), start.images.dtype
        self.optimizer = LockStepLBFGS(slots, size, attack.lbfgs, device, dtype)
        self.live: dict[int, Occupant] = {}
        self.best_loss = torch.full((slots,), math.inf, dtype=dtype, device=device)
        self.best = self.optimizer.x.clone()
        self.boundary = self.optimizer.x.clone()  # `x` at the end of the last outer step
        self.clock = 0.0  # seconds, each divided by the trials that shared it
        self.exact: dict[int, bool] = {}  # {narrower batch: whether it computes the same bits}
        self.closure.check(self.optimizer.x)

    def put(self, slot: int, case: Case) -> None:
        """Start a case in that slot."""
        self.closure.put(slot, case)
        start = self.attack.start_of(case)
        for state in (self.optimizer.x, self.best):
            state[slot] = torch.cat([start.images.flatten(), start.label_logits.flatten()])
        self.best_loss[slot] = math.inf
        self.boundary[slot] = math.nan  # equal to nothing: the start is not stuck
        self.optimizer.restart(slot)
        self.live[slot] = Occupant(case.number, [], self.clock)

    def step(self, observe: Observer) -> list[tuple[int, int, Found]]:
        """One iteration of every trial; (slot, number, what was found) of those that ended."""
        began = time.perf_counter()
        loss, gradient = self.closure(self.optimizer.x)  # (B,), (B, size)
        better = loss < self.best_loss
        self.best_loss.copy_(torch.where(better, loss, self.best_loss))
        self.best.copy_(torch.where(better[:, None], self.optimizer.x, self.best))
        ended = self.optimizer.arrive(loss, gradient)
        slots = [slot for slot in ended.nonzero()[:, 0].tolist() if slot in self.live]
        reports = self._boundaries(slots, loss, observe) if slots else []
        self.optimizer.depart(loss, gradient)
        self.clock += (time.perf_counter() - began) / len(self.live)
        return [self._finish(slot, *ending) for slot, ending in reports]

    def _boundaries(
        self, slots: list[int], loss: Tensor, observe: Observer
    ) -> list[tuple[int, tuple[Status, str]]]:
        """Record the end of an outer step in these slots; which of them end there, and why."""
        x = self.optimizer.x[slots]  # (k, size)
        stuck = (x == self.boundary[slots]).all(1).tolist()
        self.boundary[slots] = x
        images = self.attack.pixels(x[:, : self.pixels]).view(-1, *self.shape)
        largest = images.abs().flatten(1).amax(1).tolist()
        occupants = [self.live[slot] for slot in slots]
        for occupant, value in zip(occupants, loss[slots].tolist(), strict=True):
            occupant.history.append(value)
        steps = [len(occupant.history) - 1 for occupant in occupants]
        observe([occupant.number for occupant in occupants], steps, images)
        endings = (
            self.attack.ending(step, occupant.history[-1], *rest)
            for occupant, step, *rest in zip(occupants, steps, largest, stuck, strict=True)
        )
        return [(slot, ending) for slot, ending in zip(slots, endings, strict=True) if ending]

    def _finish(self, slot: int, status: Status, reason: str) -> tuple[int, int, Found]:
        occupant = self.live.pop(slot)
        best = self.best[slot].cpu()
        found = Found(
            self.attack.pixels(best[: self.pixels]).view(self.shape),
            best[self.pixels :].view(self.shape[0], -1),
            float(self.best_loss[slot]),
            occupant.history,
            status,
            reason,
            self.clock - occupant.clock,
        )
        return slot, occupant.number, found

    def narrow(self) -> None:
        """Leave out empty slots once no case is left for them.

        Only where the narrower batch computes the same bits: what a trial gives must not depend on
        how many others are still running.
        """
        width = len(self.best)
        while width % 2 == 0 and width // 2 >= max(len(self.live), GRAIN):
            width //= 2
        if not self.live or width == len(self.best) or not self._same_bits(width):
            return
        empty = (slot for slot in range(len(self.best)) if slot not in self.live)
        keep = [*self.live, *islice(empty, width - len(self.live))]
        self.live = {place: self.live[slot] for place, slot in enumerate(keep) if slot in self.live}
        for owner in (self, self.optimizer, self.closure):
            take_slots(owner, keep)

    def _same_bits(self, width: int) -> bool:
        if width not in self.exact:
            self.exact[width] = self.closure.same_bits(self.optimizer.x, width)
        return self.exact[width]


def take_slots(owner: object, keep: list[int]) -> None:
    """Keep only these slots of every tensor that `owner` holds, alone or in a dict."""
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            setattr(owner, name, value[keep])
        elif isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()):
            setattr(owner, name, {key: each[keep] for key, each in value.items()})


def bytes_per_slot(attack: "DLG", example: Case) -> int:
    """The memory that each slot of a batch takes: what it holds, and what a step needs besides."""
    batch = Batch(attack, example, Resources(slots=GRAIN))
    held = held_bytes(batch, batch.optimizer, batch.closure)
    return math.ceil((held + batch.closure.intermediate_bytes) / GRAIN)
