"""Whether a trial is needed: a victim that has leaked to one attack is not attacked by the next."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from enum import Enum, auto
from math import inf
from typing import NamedTuple

from leakbench.bench.attacks import Attack
from leakbench.bench.trial import Trial
from leakbench.sweeps.spec import Sweep


class Score(NamedTuple):
    """What a row tells of a trial that has a result."""

    objective: float | None  # None where the attack minimises nothing
    score: float


class Need(Enum):
    """Whether a trial is to be run."""

    DUE = auto()
    WAITING = auto()  # for the rows of an attack before it
    SETTLED = auto()  # its victim has leaked


class Needs:
    """Decided from rows alone, as in AutoAttack (Croce and Hein 2020); no attack learns of it.

    The same trials are run whatever the order and the company in which the rows come, and what leaks is
    what would leak if all attacks were run: each has either all its starts on a victim or none.
    """

    def __init__(self, sweep: Sweep, done: Collection[str], scores: Mapping[str, Score]):
        attacks = [choice.value for choice in sweep.attacks]
        self.earlier: dict[Attack, list[Attack]] = (
            {attack: attacks[:place] for place, attack in enumerate(attacks)} if sweep.spares else {}
        )
        self.sweep, self.restarts, self.leak = sweep, sweep.restarts, sweep.scale.leak
        self.done, self.scores = done, scores

    def of(self, trial: Trial) -> Need:
        """Whether that trial is to be run."""
        what = trial.dataset, trial.model, trial.protocol, trial.defense
        for attack in self.earlier.get(trial.attack, ()):
            if not self.sweep.takes(attack, *what):
                continue
            keys = [replace(trial, attack=attack, start=start).key for start in range(self.restarts)]
            if not all(key in self.done for key in keys):
                return Need.WAITING
            scores = [self.scores[key] for key in keys if key in self.scores]
            if scores and leading(scores).score >= self.leak:
                return Need.SETTLED
        return Need.DUE


def leading(scores: list[Score]) -> Score:
    """Of several starts of one attack that which its attacker would keep: the one of lowest objective."""
    return min(scores, key=lambda each: inf if each.objective is None else each.objective)
