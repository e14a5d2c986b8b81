"""What is shown to a user as a line, and never as a traceback."""


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
