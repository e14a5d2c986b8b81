"""The execution of trials: a victim shares, an attack inverts, and what it found is scored."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leakbench.bench.attacks import Case, Found, Knows, NotApplicableError, Resources
from leakbench.bench.gradients import distance_by_layer
from leakbench.bench.hardware import hardware_of
from leakbench.bench.job import Job
from leakbench.bench.row import (
    Result,
    asked_for,
    costs,
    failure,
    input_errors,
    input_score_of,
    label_columns,
    make_row,
    match_loss_of,
    posterior_of,
    score_columns,
    threat_of,
)
from leakbench.bench.trace import Trace, texts_of
from leakbench.bench.trial import Trial, prepare
from leakbench.core.errors import one_line
from leakbench.defenses import Account, ContractError

SECONDS_BETWEEN_NEWS = 0.5  # of steps taken


@dataclass(frozen=True)
class Conditions:
    """What trials run under, besides what decides their results."""

    resources: Resources = field(default_factory=Resources)
    data_root: Path = Path("data")
    snapshot_every: int = 0  # outer steps between two pictures kept of a trial; 0 keeps none


def _ignore(_news: Any) -> None:
    pass


@dataclass(frozen=True)
class Watcher:
    """Told how jobs get on while they run."""

    preparing: Callable[[Job | None], None] = _ignore  # what is a job's alone begins; None: it is over
    moved: Callable[[int], None] = _ignore  # outer steps taken; those a job did not need count as taken


def run_trials(
    trials: Iterable[Trial],
    conditions: Conditions,
    watcher: Watcher = Watcher(),  # frozen
) -> Iterator[Result]:
    """Run trials, taken one by one as there is room, and yield each result as it comes.

    Whatever goes wrong in a trial becomes its row.

    Args:
        trials: those that share a batch after one another.
        conditions: what they run under.
        watcher: told what happens on the way.
    """
    for _, group in groupby(trials, key=lambda trial: trial.group):
        yield from _Group(conditions, watcher).run(group)


@dataclass(frozen=True)
class _Running:
    """A trial under attack, and what the attacker does not know of it."""

    trial: Trial
    case: Case
    trace: Trace
    labels: Tensor | None  # (N,); None: unknown
    account: Account | None  # of its defense, whether the attacker is told it or not
    entered: Tensor | None  # see `Exposed.entered`
    costs: dict[str, float | None]  # columns of its row


class _Group:
    """The trials that share a batch, and what is known of each while it runs."""

    def __init__(self, conditions: Conditions, watcher: Watcher):
        self.conditions = conditions
        self.watcher = watcher
        self.steps, self.told = 0, time.monotonic()  # outer steps that the watcher was not told of yet
        self.running: dict[int, _Running] = {}  # by number
        self.failed: list[Result] = []

    def run(self, group: Iterator[Trial]) -> Iterator[Result]:
        cases = self._cases(group)
        for case in cases:  # more than once only where a batch failed as a whole
            attack = self.running[case.number].trial.attack
            try:
                answers = attack.run(chain([case], cases), self.observe, self.conditions.resources)
                for number, found in answers:
                    yield self._answer(number, found)
                    yield from self._failures()
            except (Exception, SystemExit) as error:  # noqa: BLE001  # here an error becomes a row
                for each in self.running.values():
                    self.failed.append(self._failure(each.trial, error, each.trace.steps))
                self.running.clear()
            yield from self._failures()
        yield from self._failures()
        self._tell()

    def _count(self, steps: int) -> None:
        self.steps += steps
        if time.monotonic() - self.told >= SECONDS_BETWEEN_NEWS:
            self._tell()

    def _tell(self) -> None:
        self.watcher.moved(self.steps)
        self.steps, self.told = 0, time.monotonic()

    def _cases(self, group: Iterator[Trial]) -> Iterator[Case]:
        for number, trial in enumerate(group):
            self.watcher.preparing(trial)
            try:
                case, victim, exposed = prepare(trial, number, self.conditions.data_root)
                trace = Trace(victim.batch)
                self.running[number] = _Running(
                    trial, case, trace, victim.labels, exposed.account, exposed.entered, costs(exposed)
                )
            except (Exception, SystemExit) as error:  # noqa: BLE001  # likewise, before the attack
                self.failed.append(self._failure(trial, error))
            self.watcher.preparing(None)
            if number in self.running:
                yield case

    def observe(self, numbers: list[int], steps: list[int], x: Tensor, labels: Tensor | None = None) -> None:
        """See `Observer`."""
        traces = [self.running[number].trace for number in numbers]
        self._count(sum(step > 0 for step in steps))
        seen = x.cpu()
        truths = [trace.truth for trace in traces if trace.truth is not None]
        nothing: list[Any] = [None] * len(numbers)
        errors = nothing
        if truths:  # of one dataset
            spec = self.running[numbers[0]].case.spec
            errors = spec.modality.errors(seen, torch.stack(truths), spec)
        logits = labels.cpu() if labels is not None else nothing
        for number, step, each, error, label in zip(numbers, steps, seen, errors, logits, strict=True):
            trace, case = self.running[number].trace, self.running[number].case
            if step == 0:  # once more where an attack had to start again
                trace.errors.clear()
                trace.snapshots.clear()
                trace.distances.clear()
            trace.steps = step
            if error is not None:
                trace.errors.append(error)
            if self.conditions.snapshot_every and step % self.conditions.snapshot_every == 0:
                trace.snapshots[step] = each.clone()
                if label is not None:
                    trace.distances[step] = distance_by_layer(case.model, case.shared, each, label)

    def _answer(self, number: int, found: Found | ContractError | NotApplicableError) -> Result:
        each = self.running.pop(number)
        if isinstance(found, Exception):
            return self._failure(each.trial, found, each.trace.steps)
        try:
            return self._finish(each, found)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the defense's author may err in it
            return self._failure(each.trial, error, found.iterations)

    def _finish(self, each: _Running, found: Found) -> Result:
        trial, case, trace, labels = each.trial, each.case, each.trace, each.labels
        device, spec, classes = self.conditions.resources.device, case.spec, found.classes
        if case.whole:
            found, spec, classes = replace(found, labels=None), case.whole.spec, case.whole.labels
        input_score = input_score_of(each.entered, found.x.detach(), spec)
        x = _restored(trial, found.x.detach())
        order = list(range(len(x))) if trace.truth is None else spec.modality.match(x, trace.truth, spec)
        trace.objective = list(found.history)
        trace.reconstruction = x[order]
        if classes is not None and case.labels is None:
            trace.labels = asked_for(classes[order])
        if found.inputs and trace.truth is not None:
            trace.input_errors = input_errors(case.model, spec.image_shape, trace.truth, found.inputs)
        trace.snapshots = {step: each[order] for step, each in trace.snapshots.items()}
        trace.texts = texts_of(trace, spec)
        row = make_row(
            trial,
            device,
            status=found.status.value,
            reason=found.reason,
            iterations=found.iterations,
            match_loss=match_loss_of(case, trial.protocol, found),
            objective=found.objective,
            finite=all(map(math.isfinite, found.history)),
            **each.costs,
            modality=spec.modality.name,
            input_score=input_score,
            **score_columns(trace.truth, trace.reconstruction, spec),
            neg_log_posterior=posterior_of(case, trial.protocol, each.account, found),
            **label_columns(trace.labels, labels),
            classes=spec.classes,
            threat=threat_of(case, trial.attack.knows),
            hardware=hardware_of(device),
            seconds=found.seconds,
        )
        self._count(trial.steps - found.iterations)
        return Result(row, trace)

    def _failures(self) -> Iterator[Result]:
        while self.failed:
            yield self.failed.pop(0)

    def _failure(self, trial: Trial, error: BaseException, steps: int = 0) -> Result:
        self._count(trial.steps - steps)
        return failure(trial, one_line(error), self.conditions.resources.device)


def _restored(trial: Trial, found: Tensor) -> Tensor:
    """What was found, with what the defense made of the batch undone by those who know the defense."""
    if Knows.DEFENSE not in trial.attack.knows:
        return found
    # of a sum, nobody knows which images are of one client, but for those that are alone
    together = 1 if trial.protocol.batch_size == 1 else len(found)
    return torch.cat([trial.defense.checked_restoration(each) for each in found.split(together)])
