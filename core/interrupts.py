"""What Ctrl-C, or a batch system's SIGTERM, must not cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class InterruptedRunError(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM, while a run was under way: what is finished is stored."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Both signals wait until this is done: rows are there or not, never twice."""
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
    """Start a process of loky's; Ctrl-C, which reaches all processes of a terminal, is not for it.

    Otherwise one that is still loading would print a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a process inherits it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
