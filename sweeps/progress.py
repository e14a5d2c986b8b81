"""What a running sweep shows: a bar with the time left, or plain lines where the output is a file."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from bench.trial import Trial

SECONDS_BETWEEN_LINES = 15.0


class Progress(ABC):
    """Counts outer steps, for many trials end at once, and trials. A context manager."""

    def __init__(self, console: Console, pending: Sequence[Trial]):
        self.console = console
        self.steps, self.all_steps = 0, sum(trial.attack.budget for trial in pending)
        self.trials, self.all_trials = 0, len(pending)

    def moved(self, steps: int) -> None:
        """So many more outer steps were taken."""
        self.steps += steps
        self.show()

    def ended(self) -> None:
        """One more trial has ended."""
        self.trials += 1
        self.show()

    @abstractmethod
    def show(self) -> None:
        """Bring the display up to date."""

    @abstractmethod
    def __enter__(self) -> "Progress": ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None
    ) -> None: ...


class Bar(Progress):
    """For a terminal."""

    def __init__(self, console: Console, pending: Sequence[Trial]):
        super().__init__(console, pending)
        self.bar = RichProgress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            speed_estimate_period=3600,  # the whole run: its speed is that of all workers together
        )
        self.task = self.bar.add_task(f"0/{self.all_trials} trials", total=self.all_steps)

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.bar.stop()

    def show(self) -> None:
        """See `Progress.show`."""
        text = f"{self.trials}/{self.all_trials} trials"
        self.bar.update(self.task, completed=self.steps, description=text)


class Lines(Progress):
    """For a log: a line now and then."""

    def __init__(self, console: Console, pending: Sequence[Trial]):
        super().__init__(console, pending)
        self.began = self.printed = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._print()

    def show(self) -> None:
        """See `Progress.show`."""
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        elapsed = self.printed - self.began
        left = elapsed / max(self.steps, 1) * (self.all_steps - self.steps)
        done = self.steps / self.all_steps
        self.console.print(
            f"{done:.0%}, {self.trials}/{self.all_trials} trials, {elapsed:.0f} s elapsed, {left:.0f} s left"
        )


def show_progress(console: Console, pending: Sequence[Trial]) -> Progress:
    """The display that suits the console."""
    return Bar(console, pending) if console.is_terminal else Lines(console, pending)
