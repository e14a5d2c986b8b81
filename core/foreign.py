"""Foreign code: a user's file, a plug-in, a compiler, another machine. It may raise anything."""

from collections.abc import Iterator
from contextlib import contextmanager

from leakbench.core.errors import one_line

LONGEST = 300  # characters of a reason that is a part of a line


class ForeignError(Exception):
    """What foreign code raised, as a line: see `one_line`."""

    def __init__(self, cause: BaseException):
        self.cause = cause
        super().__init__(one_line(cause))

    @property
    def short(self) -> str:
        """The line, cut off where it is long."""
        return str(self)[:LONGEST]


@contextmanager
def foreign(*through: type[BaseException]) -> Iterator[None]:
    """Foreign code runs in here; KeyboardInterrupt always passes.

    Args:
        through: what passes as it is. Where SystemExit is among them, foreign code may end the process.

    Raises:
        ForeignError: in place of whatever else was raised.
    """
    try:
        yield
    except through:
        raise
    except (Exception, SystemExit) as error:  # the one place that catches them
        raise ForeignError(error) from error
