"""The lock of a run's folder: one writer, whom the system forgets when its process ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from leakbench.core.errors import UserError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the one writer of a folder.

    Raises:
        UserError: another process is, or the folder cannot be written to.
    """
    path = folder / LOCK
    try:
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}") from error
    with file:
        if not _got(file):
            raise UserError(f"{folder}: {_holder(path)} is writing to it")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def writer_of(folder: Path) -> str:
    """`process 17 on host` that holds the lock; empty where none does."""
    path = folder / LOCK
    if not path.exists():
        return ""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(path)
    return ""


def _got(file: TextIO) -> bool:
    """Whether the lock was got; `leakbench status` holds it for a moment, too."""
    for _ in range(3):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return True
    return False


def _holder(path: Path) -> str:
    return path.read_text() or "another process"
