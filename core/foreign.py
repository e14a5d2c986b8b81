"""Foreign code (a user's file, a plug-in, a compiler, another machine) may raise anything."""

from collections.abc import Iterator
from contextlib import contextmanager

from leakbench.core.errors import one_line

LONGEST = 300  # characters of a reason that is quoted within a line


class ForeignError(Exception):
    """What foreign code raised, as one line; see `one_line`."""

    def __init__(self, cause: BaseException):
        self.cause = cause
        super().__init__(one_line(cause))

    @property
    def short(self) -> str:
        """The line, cut off after LONGEST characters."""
        return str(self)[:LONGEST]


@contextmanager
def foreign(*through: type[BaseException]) -> Iterator[None]:
    """Run foreign code in this context; KeyboardInterrupt always passes.

    Args:
        through: exceptions that pass unchanged. With SystemExit among them, foreign code may end the process.

    Raises:
        ForeignError: in place of any other exception.
    """
    try:
        yield
    except through:
        raise
    except (Exception, SystemExit) as error:  # the one place that catches them
        raise ForeignError(error) from error
