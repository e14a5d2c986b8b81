"""What is shown to a user as a line, and never as a traceback."""

from collections import Counter
from typing import Any


def one_line(error: BaseException) -> str:
    """An error as `Type: what it says`, whatever line breaks are in it."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    return f"{kind}: {text}" if text else kind


class UserError(Exception):
    """Something that the user has to change. `problems` has a line for each reason."""

    def __init__(self, *problems: str):
        self.problems = list(problems)
        super().__init__("\n".join(problems))


class StoppedError(UserError):
    """A sweep that ended before its time; what is finished is stored."""


class FailedTrialsError(Exception):
    """A sweep has ended, and some of its trials have failed.

    Args:
        rows: all rows of the sweep, a DataFrame.
        reasons: {why trials failed: how many}.
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
