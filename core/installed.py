"""Classes that other installed packages provide through entry points."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from leakbench.core.configured import SettingError
from leakbench.core.foreign import ForeignError, foreign


@cache
def installed(kind: str) -> dict[str, EntryPoint]:
    """{name: entry point} of the group `leakbench.KINDs`, from the packages of this environment."""
    return {entry.name: entry for entry in entry_points(group=f"leakbench.{kind}s")}


def load(entry: EntryPoint) -> type:
    """The class that an entry point names.

    Raises:
        SettingError: it cannot be imported or is not a class.
    """
    package = entry.dist.name if entry.dist else entry.value
    try:
        with foreign():
            cls = entry.load()
    except ForeignError as error:
        text = f"{entry.name} of {package}: could not be imported: {error}"
        raise SettingError([("", text)]) from error
    if not isinstance(cls, type):
        text = f"{entry.name} of {package}: expected a class at {entry.value}, got a {type(cls).__name__}"
        raise SettingError([("", text)])
    return cls
