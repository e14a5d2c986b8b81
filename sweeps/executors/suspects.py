"""Which trial ends its worker: found by dividing those that were under way when a worker died."""

from collections import Counter
from collections.abc import Sequence

from leakbench.bench.trial import Trial

CONVICTED = 2  # deaths for which there was no other suspect


class Suspects:
    """What is known of the deaths of workers during one sweep."""

    def __init__(self) -> None:
        self.alone: Counter[tuple[str, str]] = Counter()

    def after_death(self, trials: Sequence[Trial], during: str) -> tuple[list[list[Trial]], Trial | None]:
        """What to run again, each list without company, and the trial that is found out, if one is.

        A worker may die of anything. Only a trial that was the only suspect twice, and while the same
        was done with it, is held to be the reason.

        Args:
            trials: those that may have ended the worker.
            during: what was done with them.
        """
        if len(trials) > 1:
            half = (len(trials) + 1) // 2
            return [list(trials[:half]), list(trials[half:])], None
        for trial in trials:
            self.alone[trial.key, during] += 1
            if self.alone[trial.key, during] >= CONVICTED:
                return [], trial
        return [list(trials)] if trials else [], None
