"""A case on its way through the batched engine: its candidates, their race, its stages."""

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
    """One candidate of a case, in a slot or on its way to one."""

    case: Case
    candidate: "Candidate"
    rivals: "Race | None"  # the candidates of the case, until it is decided which goes on
    variable: Tensor  # (size,): where it stands
    best: Tensor  # (size,): of its stage
    best_loss: float = math.inf
    place: int = 0  # of its stage
    losses: list[float] = field(default_factory=list)  # at the beginning of its stage and after each step
    history: list[float] = field(default_factory=list)  # likewise, of all stages
    unseen: list[tuple[int, Tensor, Tensor | None]] = field(default_factory=list)  # while it may lose
    ending: tuple[Status, str] | None = None  # of its stage
    seconds: float = 0.0

    @property
    def stage(self) -> "Stage":
        """The one that it is in."""
        return self.candidate.stages[self.place]

    @property
    def diverged(self) -> bool:
        """Whether its stage ended so."""
        return self.ending is not None and self.ending[0] is Status.DIVERGED

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after the stage that has ended."""
        return self.diverged or self.place + 1 == len(self.candidate.stages)

    @property
    def has_moved(self) -> bool:
        """Whether an outer step of the attack has ended here, or its start was: a later stage has none."""
        return self.place == 0 or len(self.losses) > 1

    @property
    def steps(self) -> int:
        """Outer steps taken."""
        return len(self.history) - 1

    def record(self, loss: float) -> None:
        """The objective at the beginning of its stage, or after one more outer step."""
        self.losses.append(loss)
        if self.has_moved:
            self.history.append(loss)

    def next_stage(self) -> None:
        """Enter it; what was found before has another objective."""
        self.place += 1
        self.losses, self.best, self.best_loss, self.ending = [], self.variable, math.inf, None

    def found(self, attack: "Optimised") -> Found:
        """What came of it; its status and reason are those of the last stage."""
        assert self.ending is not None
        shape = self.candidate.images.shape
        images = attack.pixels(self.best[: shape.numel()].view(shape))
        labels = self.candidate.labels_at(self.best)
        return Found(images, labels, self.best_loss, self.history, *self.ending, self.seconds)


class Race:
    """The candidates of one case in their first stage."""

    def __init__(self, count: int):
        self.missing = count
        self.arrived: list[Run] = []

    def winner(self, run: Run) -> Run | None:
        """Takes note that a candidate has arrived; with the last one, the best of all by its objective."""
        self.arrived.append(run)
        self.missing -= 1
        if self.missing:
            return None
        best = min(self.arrived, key=lambda each: (each.diverged, each.best_loss))
        best.seconds = sum(each.seconds for each in self.arrived)
        best.rivals = None
        return best


class Feed:
    """The runs that are still to be put into slots: one by one, so that cases wait outside."""

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
        each = (time.perf_counter() - began) / max(len(candidates), 1)  # where it begins is its work, too
        self.unfinished[case.number] = case
        race = Race(len(candidates)) if len(candidates) > 1 else None
        for candidate in candidates:
            variable = candidate.variable
            self.waiting.append(Run(case, candidate, race, variable, variable, seconds=each))

    def goes_on(self, run: Run) -> None:
        """It has won its race, and waits for a slot."""
        run.next_stage()
        self.waiting.appendleft(run)

    def start_again(self) -> None:
        """From the beginning, with what was not finished."""
        unfinished = list(self.unfinished.values())
        self.waiting.clear()
        for case in unfinished:
            self._begin(case)

    def refusals(self) -> Iterator[tuple[int, NotApplicableError]]:
        """Cases that the attack cannot begin on, each once."""
        while self.refused:
            yield self.refused.pop(0)
