"""What a running sweep shows: a bar with the time left, or plain lines where the output is a file."""

import time
from abc import ABC, abstractmethod
from array import array
from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from leakbench.bench.attacks import Status
from leakbench.core.words import in_words
from leakbench.sweeps.todo import Todo

SECONDS_BETWEEN_LINES = 15.0  # at the beginning
SHARE_BETWEEN_LINES = 0.02  # of the time that has passed, later: a log of days stays readable
TELLING = 0.05  # of all steps: before that, those of attacks in closed form would stand for the others


class Progress(ABC):
    """Counts outer steps, for many jobs end at once, and jobs. A context manager.

    Prints a line when the last job of a part has ended.
    """

    def __init__(self, console: Console, todo: Todo):
        self.console, self.todo = console, todo
        self.steps, self.all_steps = 0, todo.steps
        self.all_jobs, self.uneven = len(todo), todo.uneven
        self.statuses: Counter[str] = Counter()
        self.missing = Counter(todo.parts)
        self.unfinished = {part: _Ended() for part in self.missing}
        self.began = time.monotonic()

    def moved(self, steps: int) -> None:
        """So many more outer steps were taken."""
        self.steps = min(self.steps + steps, self.all_steps)  # those of a dead worker are taken again
        self.show()

    def ended(self, row: dict[str, Any]) -> None:
        """One more job has ended."""
        self.statuses[row["status"]] += 1
        part = self.todo.part_of(row)
        ended = self.unfinished.setdefault(part, _Ended())
        ended.statuses[row["status"]] += 1
        if Status(row["status"]).has_result and row[self.todo.measure] is not None:
            ended.values.append(row[self.todo.measure])
        self.missing[part] -= 1
        if not self.missing[part]:
            self._print_part(part, self.unfinished.pop(part))
        self.show()

    def _print_part(self, part: str, ended: "_Ended") -> None:
        texts = [by_status(ended.statuses)]
        if ended.values:
            texts.append(self.todo.summary(ended.values))
        self.console.print(f"{part}: {'; '.join(texts)}")

    def left(self) -> str:
        """`2 min 0 s left`; nothing while that cannot be told."""
        done = self.steps / max(self.all_steps, 1)
        if not done or (self.uneven and done < TELLING):
            return ""
        return f"{in_words((time.monotonic() - self.began) * (1 / done - 1))} left"

    def counts(self) -> str:
        """`388/2700 trials, 34.1/min: 200 budget, 180 converged, 8 error`."""
        jobs = self.statuses.total()
        minutes = max(time.monotonic() - self.began, 1e-9) / 60
        text = f"{jobs}/{self.all_jobs} {self.todo.noun}s, {jobs / minutes:.3g}/min"
        return f"{text}: {by_status(self.statuses)}" if jobs else text

    @abstractmethod
    def show(self) -> None:
        """Bring the display up to date."""

    @abstractmethod
    def __enter__(self) -> "Progress": ...

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


def by_status(statuses: Counter[str]) -> str:
    """`200 budget, 180 converged`, the most frequent first."""
    return ", ".join(f"{count} {status}" for status, count in statuses.most_common() if count)


class _Ended:
    """What has come in of one part."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.values = array("f")


class Bar(Progress):
    """For a terminal."""

    def __init__(self, console: Console, todo: Todo):
        super().__init__(console, todo)
        self.bar = RichProgress(
            BarColumn(),
            TextColumn("{task.percentage:.0f} %,"),
            TimeElapsedColumn(),
            TextColumn("elapsed{task.fields[left]}"),
        )
        self.task = self.bar.add_task("", total=self.all_steps, left="")
        self.live = Live(get_renderable=self._display, console=console, refresh_per_second=4)

    def __enter__(self) -> "Bar":
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.live.stop()

    def show(self) -> None:
        """See `Progress.show`."""
        self.bar.update(self.task, completed=self.steps)

    def _display(self) -> Group:
        left = self.left()
        self.bar.update(self.task, left=f", {left}" if left else "")
        return Group(self.bar, Text(self.counts()))


class Lines(Progress):
    """For a log: a line now and then."""

    def __init__(self, console: Console, todo: Todo):
        super().__init__(console, todo)
        self.printed = self.began

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._print()

    def show(self) -> None:
        """See `Progress.show`."""
        now = time.monotonic()
        pause = max(SECONDS_BETWEEN_LINES, SHARE_BETWEEN_LINES * (now - self.began))
        if now - self.printed >= pause:
            self._print()

    def _print(self) -> None:
        self.printed = time.monotonic()
        elapsed = f"{self.steps / self.all_steps:.0%}, {in_words(self.printed - self.began)} elapsed"
        self.console.print(", ".join(filter(None, [elapsed, self.left(), self.counts()])))


def show_progress(console: Console, todo: Todo) -> Progress:
    """The display that suits the console."""
    return Bar(console, todo) if console.is_terminal else Lines(console, todo)
