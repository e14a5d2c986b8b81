"""Which job ends its worker: found by dividing those that were under way when a worker died."""

from collections import Counter
from collections.abc import Sequence

from leakbench.bench.job import Job

CONVICTED = 2  # deaths for which there was no other suspect


class Suspects:
    """What is known of the deaths of workers during one sweep."""

    def __init__(self) -> None:
        self.alone: Counter[tuple[str, str]] = Counter()

    def after_death(self, jobs: Sequence[Job], during: str) -> tuple[list[list[Job]], Job | None]:
        """What to run again, each list without company, and the job that is found out, if one is.

        A worker may die of anything. Only a job that was the only suspect twice, and while the same
        was done with it, is held to be the reason.

        Args:
            jobs: those that may have ended the worker.
            during: what was done with them.
        """
        if len(jobs) > 1:
            half = (len(jobs) + 1) // 2
            return [list(jobs[:half]), list(jobs[half:])], None
        for job in jobs:
            self.alone[job.key, during] += 1
            if self.alone[job.key, during] >= CONVICTED:
                return [], job
        return [list(jobs)] if jobs else [], None
