"""Work that Ctrl-C, or a batch system's SIGTERM, must not interrupt halfway."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run; finished trials are stored."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay both signals until this block is done, so that rows are written exactly once or not at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    heeded = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def start_quietly(process: Any) -> None:
    """Start a process of loky that ignores Ctrl-C, which a terminal sends to all its processes.

    Otherwise a process that is still loading would print a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the new process inherits it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
