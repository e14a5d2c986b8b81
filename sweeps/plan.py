"""What of a sweep is to be run next."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import Any, ClassVar

from leakbench.bench.attacks import Status
from leakbench.bench.job import Job
from leakbench.bench.trial import Trial
from leakbench.core.errors import UserError
from leakbench.sweeps.grid import trials
from leakbench.sweeps.need import Need, Needs, Score
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.store import Store
from leakbench.sweeps.todo import Todo


@dataclass
class Kind:
    """Trials that can share a batch."""

    example: Trial
    trials: int = 0
    steps: int = 0  # outer steps of all of them, at most


@dataclass(frozen=True)
class Plan(Todo):
    """The trials that a run has to do, and those that it has not."""

    noun: ClassVar[str] = "trial"

    sweep: Sweep
    done: frozenset[str]  # keys of the trials that are not run again
    retried: frozenset[str]  # keys of the failed ones that are, now or later
    left_out: frozenset[str]  # keys of rows that the sweep does not ask for
    kept: int  # trials of the sweep that are done
    settled: Mapping[str, int]  # how many trials are not needed, of each defense
    waiting: int  # trials that are needed or not as rows that are still missing will tell
    kinds: tuple[Kind, ...]  # of the others
    by_attack: Mapping[tuple[str, str], int]  # how many others there are of each attack and defense
    needs: Needs
    asked: frozenset[Need]  # which of them are run

    def __len__(self) -> int:
        """How many trials are to be run."""
        return sum(kind.trials for kind in self.kinds)

    def __iter__(self) -> Iterator[Trial]:
        return (
            trial
            for trial in trials(self.sweep)
            if trial.key not in self.done and self.needs.of(trial) in self.asked
        )

    @property
    def measure(self) -> str:
        """See `Todo.measure`."""
        return self.sweep.scale.column

    @property
    def steps(self) -> int:
        """See `Todo.steps`."""
        return sum(kind.steps for kind in self.kinds)

    @property
    def uneven(self) -> bool:
        """See `Todo.uneven`: of several attacks, as those in closed form take one step each."""
        return len({attack for attack, _ in self.by_attack}) > 1

    @property
    def parts(self) -> Mapping[str, int]:
        """See `Todo.parts`."""
        return {self._part(*pair): count for pair, count in self.by_attack.items()}

    def part_of(self, row: Mapping[str, Any]) -> str:
        """See `Todo.part_of`."""
        return self._part(row["attack"], row["defense"])

    def summary(self, values: Sequence[float]) -> str:
        """See `Todo.summary`."""
        return f"median {self.sweep.scale.title} of all starts {median(values):.3f}"

    def _part(self, attack: str, defense: str) -> str:
        return f"{attack}, {defense}" if self.uneven else defense


def plan(
    sweep: Sweep,
    statuses: Mapping[str, str],
    scores: Mapping[str, Score] | None = None,
    retry_errors: bool = False,
    ahead: bool = False,
) -> Plan:
    """What of the sweep is needed, has no row yet, and waits for no other row.

    Args:
        sweep: what is to be there.
        statuses: {key: status} of the rows that are.
        scores: {key: score} of those that have one; needed where the sweep spares.
        retry_errors: whether trials whose row is an error are run again.
        ahead: whether trials that wait for others are in the plan: more than will be run.
    """
    errors = {key for key, status in statuses.items() if status == Status.ERROR}
    done = statuses.keys() - errors if retry_errors else set(statuses)
    needs = Needs(sweep, done, scores or {})
    asked = {Need.DUE, Need.WAITING} if ahead else {Need.DUE}
    left_out = set(statuses)
    kinds: dict[tuple[str, ...], Kind] = {}
    by_attack: Counter[tuple[str, str]] = Counter()
    kept = 0
    waiting = 0
    settled: Counter[str] = Counter()
    for trial in trials(sweep):
        left_out.discard(trial.key)
        if trial.key in done:
            kept += 1
            continue
        need = needs.of(trial)
        if need is Need.SETTLED:
            settled[str(trial.defense)] += 1
        waiting += need is Need.WAITING
        if need in asked:
            kind = kinds.setdefault(trial.group, Kind(trial))
            kind.trials += 1
            kind.steps += trial.steps
            by_attack[str(trial.attack), str(trial.defense)] += 1
    return Plan(
        sweep=sweep,
        done=frozenset(done),
        retried=frozenset(errors - left_out if retry_errors else set()),
        left_out=frozenset(left_out),
        kept=kept,
        settled=settled,
        waiting=waiting,
        kinds=tuple(kinds.values()),
        by_attack=by_attack,
        needs=needs,
        asked=frozenset(asked),
    )


def matching(jobs: Iterable[Job], patterns: Sequence[str]) -> frozenset[str]:
    """The keys of the jobs one of whose names matches one of the patterns, such as `prune*`.

    Raises:
        UserError: a pattern that matches the name of no dataset, model, protocol, attack and defense.
    """
    found: dict[str, set[str]] = {pattern: set() for pattern in patterns}
    for job in jobs:
        names = [name for name in job.names().values() if isinstance(name, str)]
        for pattern, keys in found.items():
            if any(name == pattern or fnmatchcase(name, pattern) for name in names):
                keys.add(job.key)
    text = "--force: expected a pattern of a name in the sweep, such as 'prune*', got"
    problems = [f"{text} {pattern!r}, which matches none" for pattern, keys in found.items() if not keys]
    if problems:
        raise UserError(*problems)
    return frozenset().union(*found.values())


def plan_of(
    sweep: Sweep,
    store: Store,
    retry_errors: bool = False,
    ahead: bool = False,
    forced: Collection[str] = (),
) -> Plan:
    """See `plan`; the rows come from a store, without those of the forced keys."""
    statuses, scores = store.statuses(), store.scores() if sweep.spares else {}
    for key in forced:
        statuses.pop(key, None)
        scores.pop(key, None)
    return plan(sweep, statuses, scores, retry_errors, ahead)
