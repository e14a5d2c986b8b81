"""The batched engine: attacks many gradients in lock step, each in its own slot.

A slot whose run has ended takes the next run, so nothing waits for the slowest. Shapes do not
change, and the arithmetic of a slot does not depend on the contents of the others.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case, Found, NotApplicableError, Observer, Resources
from leakbench.bench.attacks.closure import BatchClosure
from leakbench.bench.attacks.memory import held_bytes
from leakbench.bench.attacks.runs import Feed, Run

if TYPE_CHECKING:
    from leakbench.bench.attacks.optimised import Optimised

log = logging.getLogger("leakbench")
GRAIN = 8  # slots; no batch is made narrower than this
OUT_OF_MEMORY = (RuntimeError, MemoryError)  # candidates: PyTorch's errors are RuntimeErrors
Answers = Iterator[tuple[int, Found | NotApplicableError]]


def run(attack: "Optimised", cases: Iterator[Case], observe: Observer, resources: Resources) -> Answers:
    """See `Attack.invert_many`; if memory runs out, unfinished cases start again with half the slots."""
    feed = Feed(attack, cases)
    while True:
        try:
            yield from _run(attack, feed, observe, resources)
        except OUT_OF_MEMORY as error:
            if not is_out_of_memory(error) or resources.slots == 1:
                raise
        else:
            return
        # outside the handler, where the error and the tensors in its traceback have been freed
        slots = resources.slots // 2
        log.warning("out of memory with %d slots; continuing with %d", resources.slots, slots)
        resources = replace(resources, slots=slots)
        feed.start_again()
        torch.cuda.empty_cache()


def _run(  # a batch, from its first runs until none is left
    attack: "Optimised", feed: Feed, observe: Observer, resources: Resources
) -> Answers:
    first = list(islice(feed, resources.slots))
    yield from feed.refusals()
    if not first:
        return
    batch = Batch(attack, first[0], resources)
    batch.closure.check(batch.stepper.x)
    for slot, each in enumerate(first):
        batch.put(slot, each)
    while batch.live:
        freed = batch.step(observe)
        for each in freed.values():
            decided = each.rivals.winner(each) if each.rivals else each
            if decided is None:
                continue
            for step, image, labels in decided.unseen:
                observe([decided.case.number], [step], image[None], labels)
            decided.unseen.clear()
            if decided.is_over:
                del feed.unfinished[decided.case.number]
                yield decided.case.number, decided.found(attack)
            else:
                feed.goes_on(decided)
        for slot, following in zip(freed, feed, strict=False):
            batch.put(slot, following)
        yield from feed.refusals()
        batch.narrow()


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error says that the GPU or this process ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


class Batch:
    """Slots, the runs in them, and the stepper that moves all runs."""

    def __init__(self, attack: "Optimised", example: Run, resources: Resources, kind: str = ""):
        self.attack = attack
        candidate, start = example.candidate, example.variable
        self.shape, self.pixels = candidate.images.shape, candidate.images.numel()
        self.free_labels = candidate.labels.shape if candidate.free_labels else None
        slots, device = resources.slots, torch.device(resources.device)
        self.closure = BatchClosure(attack, example.case, candidate, slots, device, resources.compiled, kind)
        self.stepper = attack.stepper(slots, len(start), device, start.dtype)
        self.live: dict[int, Run] = {}
        self.best_loss = torch.full((slots,), math.inf, dtype=start.dtype, device=device)
        self.best = self.stepper.x.clone()
        self.boundary = self.stepper.x.clone()  # the points at the end of the last outer step
        self.clock = 0.0  # seconds, each divided by the runs that shared it
        self.exact: dict[int, bool] = {}  # {narrower batch: whether it computes the same bits}

    def put(self, slot: int, run: Run) -> None:
        """Start or continue a run in that slot."""
        self.closure.put(slot, run.case, run.candidate)
        run.seconds -= self.clock
        self.live[slot] = run
        self._enter(slot, run, self.stepper.restart)

    def _enter(self, slot: int, run: Run, begin: Callable[[int, Tensor], None]) -> None:
        """Begin the present stage of a run at its current point."""
        for name, value in run.stage.terms.items():
            self.closure.terms[name][slot] = value
        for name, tensor in self.attack.renewed(run).items():
            self.closure.terms[name][slot] = tensor
        variable = run.variable.to(self.best.device)
        self.best[slot] = variable
        self.best_loss[slot] = math.inf
        self.boundary[slot] = math.nan  # equal to nothing: the start is not stuck
        begin(slot, variable)

    def step(self, observe: Observer) -> dict[int, Run]:
        """One iteration of every run; returns {slot: run} for the runs that leave their slots."""
        began = time.perf_counter()
        loss, gradient = self.closure(self.stepper.x)  # (B,), (B, size)
        better = loss < self.best_loss
        self.best_loss.copy_(torch.where(better, loss, self.best_loss))
        self.best.copy_(torch.where(better[:, None], self.stepper.x, self.best))
        ended = self.stepper.arrive(loss, gradient)
        slots = [slot for slot in ended.nonzero()[:, 0].tolist() if slot in self.live]
        over = self._boundaries(slots, observe) if slots else []
        self.stepper.depart(loss, gradient)
        self.clock += (time.perf_counter() - began) / len(self.live)
        return {slot: self.live.pop(slot) for slot in over if self._leaves(slot)}

    def _boundaries(self, slots: list[int], observe: Observer) -> list[int]:
        """Record the end of an outer step in these slots; return the slots whose stage ends there."""
        runs = [self.live[slot] for slot in slots]
        at = self.stepper.at[slots]  # (k, size)
        stuck = self.stepper.stuck(slots, self.boundary[slots]).tolist()
        self.boundary[slots] = at
        images = self.attack.pixels(at[:, : self.pixels]).view(-1, *self.shape)
        largest = images.abs().flatten(1).amax(1).tolist()
        for run, value in zip(runs, self.stepper.value[slots].tolist(), strict=True):
            run.record(value)
        labels = at[:, self.pixels :].view(-1, *self.free_labels) if self.free_labels else None
        self._observe(runs, images, labels, observe)
        over = []
        for slot, run, variable, *rest in zip(slots, runs, at, largest, stuck, strict=True):
            run.ending = self.attack.ending(run.stage, run.losses, *rest)
            if run.ending:
                run.variable = variable
                over.append(slot)
        return over

    @staticmethod
    def _observe(runs: list[Run], images: Tensor, labels: Tensor | None, observe: Observer) -> None:
        """Report runs without rivals; keep the reports of the others until one of them wins its race."""
        now = [place for place, run in enumerate(runs) if run.has_moved and run.rivals is None]
        if now:
            told = [runs[place] for place in now]
            free = None if labels is None else labels[now]
            observe([run.case.number for run in told], [run.steps for run in told], images[now], free)
        for place, run in enumerate(runs):
            if run.has_moved and run.rivals is not None:
                free = None if labels is None else labels[place, None].cpu()
                run.unseen.append((run.steps, images[place].cpu(), free))

    def _leaves(self, slot: int) -> bool:
        """Whether a run whose stage has ended leaves its slot; otherwise it enters its next stage."""
        run = self.live[slot]
        if run.rivals is None and not run.is_over:
            run.next_stage()
            self._enter(slot, run, self.stepper.resume)
            return False
        # a copy: the run may have to wait while others use the slot
        run.best, run.best_loss = self.best[slot].clone().cpu(), float(self.best_loss[slot])
        run.variable = run.variable.cpu()
        run.seconds += self.clock
        return True

    def narrow(self) -> None:
        """Remove empty slots once there are no cases left for them.

        This is done only if the narrower batch computes the same bits: the result of a trial must not
        depend on how many others are still running.
        """
        width = len(self.best)
        if self.best.is_cuda:  # there, the order of most sums depends on the width
            return
        while width % 2 == 0 and width // 2 >= max(len(self.live), GRAIN):
            width //= 2
        if not self.live or width == len(self.best) or not self._same_bits(width):
            return
        empty = (slot for slot in range(len(self.best)) if slot not in self.live)
        keep = [*self.live, *islice(empty, width - len(self.live))]
        self.live = {place: self.live[slot] for place, slot in enumerate(keep) if slot in self.live}
        for owner in (self, self.stepper, self.closure):
            take_slots(owner, keep)

    def _same_bits(self, width: int) -> bool:
        if width not in self.exact:
            self.exact[width] = self.closure.same_bits(self.stepper.x, width)
        return self.exact[width]


def take_slots(owner: object, keep: list[int]) -> None:
    """Keep only these slots of every tensor that is an attribute of `owner`, or in a dict that is."""
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            setattr(owner, name, value[keep])
        elif isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()):
            setattr(owner, name, {key: each[keep] for key, each in value.items()})


def bytes_per_slot(attack: "Optimised", example: Case, kind: str) -> int:
    """The bytes of memory per slot of a batch: its tensors, plus the intermediate results of a step.

    Computed on the CPU, with the operations used on the kind of device, `cpu` or `cuda`.
    """
    batch = Batch(attack, next(Feed(attack, iter([example]))), Resources(slots=GRAIN), kind)
    batch.closure(batch.stepper.x)
    held = held_bytes(batch, batch.stepper, batch.closure)
    return math.ceil((held + batch.closure.intermediate_bytes) / GRAIN)
