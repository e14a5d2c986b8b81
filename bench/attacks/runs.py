"""The progress of a case through the batched engine: its candidates, their race, its stages."""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from leakbench.bench.attacks.base import Case, Found, NotApplicableError, Status

if TYPE_CHECKING:
    from leakbench.bench.attacks.optimised import Candidate, Optimised, Stage


@dataclass
class Run:
    """One candidate of a case, in a slot or waiting for one."""

    case: Case
    candidate: "Candidate"
    rivals: "Race | None"  # the race of the case's candidates; None once it is decided
    variable: Tensor  # (size,): the current point
    best: Tensor  # (size,): the best point of the stage
    best_loss: float = math.inf
    place: int = 0  # index of the stage
    losses: list[float] = field(default_factory=list)  # at the beginning of the stage and after each step
    history: list[float] = field(default_factory=list)  # the same over all stages
    unseen: list[tuple[int, Tensor, Tensor | None]] = field(default_factory=list)  # reported if it wins
    ending: tuple[Status, str] | None = None  # of the stage
    seconds: float = 0.0

    @property
    def stage(self) -> "Stage":
        """The present stage."""
        return self.candidate.stages[self.place]

    @property
    def diverged(self) -> bool:
        """Whether the stage ended by diverging."""
        return self.ending is not None and self.ending[0] is Status.DIVERGED

    @property
    def is_over(self) -> bool:
        """Whether the stage that ended is the last one."""
        return self.diverged or self.place + 1 == len(self.candidate.stages)

    @property
    def has_moved(self) -> bool:
        """Whether this is the attack's start or the end of an outer step, not the start of a later stage."""
        return self.place == 0 or len(self.losses) > 1

    @property
    def steps(self) -> int:
        """Outer steps taken."""
        return len(self.history) - 1

    def record(self, loss: float) -> None:
        """Record the objective at the beginning of the stage, or after another outer step."""
        self.losses.append(loss)
        if self.has_moved:
            self.history.append(loss)

    def next_stage(self) -> None:
        """Enter the next stage; earlier losses are discarded, as its objective differs."""
        self.place += 1
        self.losses, self.best, self.best_loss, self.ending = [], self.variable, math.inf, None

    def found(self, attack: "Optimised") -> Found:
        """The result, with the status and reason of the last stage."""
        assert self.ending is not None
        shape = self.candidate.images.shape
        images = attack.pixels(self.best[: shape.numel()].view(shape))
        labels = self.candidate.labels_at(self.best)
        return Found(images, labels, self.best_loss, self.history, *self.ending, self.seconds)


class Race:
    """The competition of one case's candidates in their first stage."""

    def __init__(self, count: int):
        self.missing = count
        self.arrived: list[Run] = []

    def winner(self, run: Run) -> Run | None:
        """Record a finished candidate; after the last one, return the candidate with the lowest objective."""
        self.arrived.append(run)
        self.missing -= 1
        if self.missing:
            return None
        best = min(self.arrived, key=lambda each: (each.diverged, each.best_loss))
        best.seconds = sum(each.seconds for each in self.arrived)
        best.rivals = None
        return best


class Feed:
    """The runs that wait for slots; cases are taken one by one, only when there is room."""

    def __init__(self, attack: "Optimised", cases: Iterator[Case]):
        self.attack = attack
        self.cases = cases
        self.waiting: deque[Run] = deque()
        self.unfinished: dict[int, Case] = {}
        self.refused: list[tuple[int, NotApplicableError]] = []

    def __iter__(self) -> Iterator[Run]:
        return self

    def __next__(self) -> Run:
        while not self.waiting:
            case = next(self.cases)
            try:
                self._begin(case)
            except NotApplicableError as error:
                self.refused.append((case.number, error))
        return self.waiting.popleft()

    def _begin(self, case: Case) -> None:
        began = time.perf_counter()
        candidates = self.attack.candidates(case)
        each = (time.perf_counter() - began) / max(len(candidates), 1)  # part of the attack's time
        self.unfinished[case.number] = case
        race = Race(len(candidates)) if len(candidates) > 1 else None
        for candidate in candidates:
            variable = candidate.variable
            self.waiting.append(Run(case, candidate, race, variable, variable, seconds=each))

    def goes_on(self, run: Run) -> None:
        """Queue the winner of a race for its next stage."""
        run.next_stage()
        self.waiting.appendleft(run)

    def start_again(self) -> None:
        """Start all unfinished cases from the beginning."""
        unfinished = list(self.unfinished.values())
        self.waiting.clear()
        for case in unfinished:
            self._begin(case)

    def refusals(self) -> Iterator[tuple[int, NotApplicableError]]:
        """Yield the cases that the attack cannot handle, each once."""
        while self.refused:
            yield self.refused.pop(0)
