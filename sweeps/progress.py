"""What a running sweep shows: a bar with the time left, or plain lines where the output is a file."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """A progress bar for a terminal."""

    def __init__(self, console: Console, total: int):
        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            # the speed over the whole run: trials come in by twos and threes
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            speed_estimate_period=3600,
        )
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self.progress.stop()

    def advance(self) -> None:
        """One more trial has ended."""
        self.progress.advance(self.task)


class Lines:
    """A line now and then, for logs."""

    def __init__(self, console: Console, total: int):
        self.console, self.total, self.done = console, total, 0
        self.began = self.printed = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._print()

    def advance(self) -> None:
        """One more trial has ended."""
        self.done += 1
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        elapsed = self.printed - self.began
        left = elapsed / max(self.done, 1) * (self.total - self.done)
        self.console.print(
            f"{self.done}/{self.total} trials, {elapsed:.0f} s elapsed, {left:.0f} s left", highlight=False
        )


def show_progress(console: Console, total: int) -> Bar | Lines:
    """The display that suits the console, as a context manager."""
    return Bar(console, total) if console.is_terminal else Lines(console, total)
