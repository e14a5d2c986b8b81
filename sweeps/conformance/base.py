"""A check of a plug-in, and its result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from leakbench.bench.attacks import NotApplicableError
from leakbench.core.configured import Configured
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.registry import Registry
from leakbench.defenses import ContractError

SETTINGS = "settings that give a name, and a name that gives the settings"
Attempt = Callable[[], str | None]  # returns what is wrong, or raises
Attempts = Iterator[tuple[str, Attempt]]  # each with what is checked, in words


@dataclass(frozen=True)
class Finding:
    """One check, and what was wrong; the problem is empty if nothing was."""

    what: str
    problem: str
    applies: bool = True  # whether the check applies; if not, the problem says why


def tried(plugin: Configured, attempts: Attempts) -> Iterator[Finding]:
    """The result of each attempt, one after the other."""
    for what, attempt in attempts:
        try:
            with foreign(ContractError, NotApplicableError):
                problem = attempt()
        except ContractError as error:
            problem = str(error).removeprefix(f"defense {plugin}: ").removeprefix(f"attack {plugin}: ")
        except NotApplicableError as error:
            yield Finding(what, " ".join(str(error).split()), applies=False)
            continue
        except ForeignError as error:
            problem = str(error)
        yield Finding(what, problem or "")


def read_back(plugin: Configured, registry: Registry[Any]) -> str | None:
    """What is wrong with the text form of a plug-in."""
    again = registry.parse(str(plugin))
    return None if again == plugin else f"{plugin} is read back as {again}"
