"""How the clients of a recorded round train: what its `round.json` says."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from leakbench.core.configured import Configured, SettingError
from leakbench.core.errors import UserError
from leakbench.core.ranges import Count
from leakbench.core.registry import make

KNOWN = ("sgd", "adam")  # optimizers whose updates are attacked
PerParameter = float | dict[str, float]  # one number, or {parameter name: number}


@dataclass(frozen=True)
class Setting(Configured):
    """How clients train, and what their files hold."""

    name: ClassVar[str] = "setting"

    optimizer: str = "unknown"  # `sgd`, `adam`, ...: the class of torch.optim in lower case
    lr: PerParameter | None = None
    momentum: PerParameter = 0.0
    weight_decay: PerParameter = 0.0
    local_steps: Count | None = None  # of the optimizer, in a round
    local_batch: Count | None = None  # examples of a step
    holds: Literal["weights", "updates"] = "weights"  # updates: what came back minus what was sent
    buffers: tuple[str, ...] | None = None  # what no gradient is taken of; None: to be guessed from the names

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `Configured.problems`."""
        for setting, value in (("lr", self.lr), ("local_steps", self.local_steps)):
            if value is None and self.optimizer in KNOWN:
                lost = 'without it say "optimizer": "unknown", and no gradient can be taken of an update'
                yield setting, f"expected a number > 0 with the optimizer {self.optimizer}, got none; {lost}"
        for wrong in [each for each in numbers_of(self.lr) if each <= 0]:
            yield "lr", f"expected a number > 0, got {wrong}"
        for wrong in [each for each in numbers_of(self.momentum) if not 0 <= each < 1]:
            yield "momentum", f"expected a number in [0, 1), got {wrong}"

    def caveats(self) -> Iterator[str]:
        """What keeps an update from being the gradient, a line each; none for one step of plain SGD."""
        if self.optimizer == "unknown":
            yield "the optimizer is unknown, so an update may not be a gradient, and its scale is unknown"
        elif self.optimizer != "sgd":
            yield f"a step of {self.optimizer} does not have the gradient's direction"
        if self.local_steps is not None and self.local_steps > 1:
            yield f"an update is the mean gradient of {self.local_steps} steps, each at other weights"
        if any(numbers_of(self.momentum)):
            yield "with momentum an update holds the gradients of earlier steps, too"


@dataclass(frozen=True)
class Sender(Configured):
    """Who is behind a client's file."""

    name: ClassVar[str] = "client"

    examples: Count | None = None  # None: not known
    summed: Count = 1  # how many clients' files it is the sum of


def value_for(name: str, value: PerParameter) -> float:
    """The value for the parameter of that name."""
    return value[name] if isinstance(value, dict) else value


def numbers_of(value: PerParameter | None) -> list[float]:
    """The numbers in a setting."""
    if value is None:
        return []
    return list(value.values()) if isinstance(value, dict) else [value]


def setting_of(where: str, settings: Mapping[str, Any]) -> Setting:
    """The setting with these values.

    Args:
        where: what the lines of an error begin with.
        settings: {field of `Setting`: value}.

    Raises:
        UserError: with a line for every problem.
    """
    try:
        return make(Setting, dict(settings))
    except SettingError as error:
        raise UserError(*_lines(where, error)) from None


def read_settings(path: Path) -> tuple[Setting, dict[str, Sender], list[str]]:
    """What a `round.json` says of all clients and of each, and a line for every problem of it."""
    setting = Setting()
    senders: dict[str, Sender] = {}
    problems: list[str] = []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return setting, {}, [f"{path}: no such file; one that holds {{}} says that nothing is known"]
    except ValueError as error:
        return setting, {}, [f"{path}: expected JSON, got {error}"]
    clients = content.pop("clients", {}) if isinstance(content, dict) else None
    if not isinstance(clients, dict):
        return setting, {}, [f'{path}: expected {{"optimizer": ..., "clients": {{NAME: {{...}}}}}}']
    try:
        setting = make(Setting, content)
    except SettingError as error:
        problems += _lines(str(path), error)
    for name, about in clients.items():
        where = f"{path}: clients.{name}"
        if not isinstance(about, dict):
            problems.append(f'{where}: expected {{"examples": ..., "summed": ...}}, got {about!r}')
            continue
        try:
            senders[name] = make(Sender, about)
        except SettingError as error:
            problems += _lines(where, error)
    return setting, senders, problems


def _lines(where: str, error: SettingError) -> Iterator[str]:
    for name, text in error.problems:
        yield f"{where}: {name}: {text}" if name else f"{where}: {text}"
