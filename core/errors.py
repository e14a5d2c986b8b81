"""Errors that are shown to the user as one line, never as a traceback."""

from collections import Counter
from typing import Any

RUNS_THE_REST = "the same command, without --fresh and --force, runs the rest"


def one_line(error: BaseException) -> str:
    """An error as `Type: message`, with its line breaks removed."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    return f"{kind}: {text}" if text else kind


class UserError(Exception):
    """Something that the user has to change. `problems` has one line per problem."""

    def __init__(self, *problems: str):
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class StoppedError(UserError):
    """A sweep that ended early; finished trials are stored."""


class FailedTrialsError(Exception):
    """A sweep has ended, but some of its trials failed.

    Args:
        rows: a DataFrame of all rows of the sweep.
        reasons: {why trials failed: number of trials}.
    """

    def __init__(self, rows: Any, reasons: Counter[str]):
        self.rows = rows
        self.reasons = reasons
        first, *others = (f"{reason} ({count})" for reason, count in reasons.most_common())
        more = f", and {len(others)} other reason{'s' * (len(others) > 1)}" if others else ""
        text = f"{sum(reasons.values())} of {len(rows)} trials failed: {first}{more}"
        super().__init__(
            f"{text}; retry=True runs them again, check=False returns their rows with the others"
        )
