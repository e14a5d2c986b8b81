"""Classifies images on shares, by each engine and at each precision, and compares with the clear."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leakbench.bench.private import dealer, secretflow
from leakbench.bench.private.answers import Answers, Observer
from leakbench.bench.private.rows import confusions, row, view_row
from leakbench.bench.private.subject import Subject
from leakbench.bench.private.view import view_test
from leakbench.bench.sharing import FixedPoint
from leakbench.core.randomness import generator_for

DEALER = "dealer"
SPU = {f"spu {protocol}": protocol for protocol in secretflow.PROTOCOLS}
PARTIES = (0, 1)  # whose views are looked at


@dataclass(frozen=True)
class Job:
    """One way to classify all images."""

    engine: str  # DEALER or one of SPU
    encoding: FixedPoint
    environment: Path  # of SPU

    def classify(self, subject: Subject, batch: int, observe: Observer) -> Answers:
        """See `dealer.classify` and `secretflow.classify`."""
        if self.engine in SPU:
            protocol = SPU[self.engine], self.environment
            return secretflow.classify(
                subject.steps, subject.images, self.encoding, *protocol, batch, observe
            )
        generator = generator_for("shared inference", self.encoding.text)
        return dealer.classify(subject.steps, subject.images, self.encoding, generator, batch, observe)


@dataclass
class Results:
    """Rows of `rows.py`."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)


def measure(
    subject: Subject, jobs: Sequence[Job], batch: int, results: Results, advance: Callable[[int], object]
) -> Iterator[str]:
    """Run every job and put its rows to the results; a line whenever one is done.

    Args:
        subject: network and images.
        jobs: what is run.
        batch: images at once.
        results: where rows go.
        advance: told of every batch how many images it had.
    """
    for job in jobs:
        answers = job.classify(subject, batch, _steps_of(advance))
        confused = confusions(subject, job.engine, job.encoding, answers)
        results.rows.append(row(subject, job.engine, job.encoding, answers))
        results.confusions += confused
        accuracy, seconds = results.rows[-1]["accuracy"], answers.seconds
        yield f"{subject.model}, {job.engine} at {job.encoding.text}: {accuracy:.1%} right, {seconds:.0f} s"
    for job in [each for each in jobs if each.engine == DEALER][:1]:
        for party in PARTIES:
            generator = generator_for("view of shared inference", party)
            found = view_test(subject.steps, subject.images, subject.labels, job.encoding, generator, party)
            results.views.append(view_row(subject.model, found))


def _steps_of(advance: Callable[[int], object]) -> Observer:
    """From how many are done to how many more are."""
    done = 0

    def observe(count: int) -> None:
        nonlocal done
        advance(count - done)
        done = count

    return observe
