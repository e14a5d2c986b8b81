"""What of a sweep is still to be run."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.attacks import Status
from bench.trial import Trial, group_of
from sweeps.grid import trials
from sweeps.spec import Sweep


@dataclass
class Kind:
    """Trials that can share a batch."""

    example: Trial
    trials: int = 0
    steps: int = 0  # outer steps of all of them, at most


@dataclass(frozen=True)
class Plan:
    """What a run has to do. Iterating gives the trials, those that share a batch after one another."""

    sweep: Sweep
    done: frozenset[str]  # keys of the trials that are not run again
    retried: frozenset[str]  # keys of the failed ones that are
    left_out: frozenset[str]  # keys of rows that the sweep does not ask for
    kept: int  # trials of the sweep that are done
    kinds: tuple[Kind, ...]  # of the others
    by_attack: Mapping[tuple[str, str], int]  # how many others there are of each attack and defense

    def __len__(self) -> int:
        """How many trials are to be run."""
        return len(self.sweep) - self.kept

    def __iter__(self) -> Iterator[Trial]:
        return (trial for trial in trials(self.sweep) if trial.key not in self.done)


def plan(sweep: Sweep, statuses: Mapping[str, str], retry_errors: bool = False) -> Plan:
    """What of the sweep has no row yet and, if that is asked for, what has failed.

    Args:
        sweep: what is to be there.
        statuses: {key: status} of the rows that are.
        retry_errors: whether trials whose row is an error are run again.
    """
    errors = {key for key, status in statuses.items() if status == Status.ERROR}
    done = statuses.keys() - errors if retry_errors else set(statuses)
    left_out = set(statuses)
    kinds: dict[tuple[str, ...], Kind] = {}
    by_attack: Counter[tuple[str, str]] = Counter()
    kept = 0
    for trial in trials(sweep):
        left_out.discard(trial.key)
        if trial.key in done:
            kept += 1
            continue
        kind = kinds.setdefault(group_of(trial), Kind(trial))
        kind.trials += 1
        kind.steps += trial.attack.budget
        by_attack[str(trial.attack), str(trial.defense)] += 1
    retried = errors - left_out if retry_errors else set()
    return Plan(
        sweep,
        frozenset(done),
        frozenset(retried),
        frozenset(left_out),
        kept,
        tuple(kinds.values()),
        by_attack,
    )
