"""Recorded rounds of a federation: what a server sent, what came back, and how clients train.

A folder of them holds, for each round,

    round-001/weights.pt      the state dict that the server sent
    round-001/client-NAME.pt  what came back from a client: a state dict, or its difference from the one sent
    round-001/round.json      the settings of `Setting`, and under "clients" those of each `Sender`

Files of tensors may also be `.npz` of numpy or `.safetensors`.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from leakbench.core.errors import UserError
from leakbench.defenses import Gradients
from leakbench.federation.setting import KNOWN, Sender, Setting, read_settings, value_for
from leakbench.federation.states import StateDict, differences, guess_buffers, read_state, several, stems
from leakbench.federation.tensor_files import write_tensors

NAME = re.compile(r"[\w.-]+")  # of a client
CLIENT = "client-"


@dataclass(frozen=True)
class Update:
    """What came back from a client, or the sum of what came back from several."""

    change: Gradients  # {parameter name: what came back - what was sent}
    buffers: dict[str, Tensor]  # as the file has them: no part of a gradient, yet they tell of the data
    examples: int | None = None  # that are behind it; None: not known
    summed: int = 1  # how many clients' changes it is the sum of


@dataclass(frozen=True)
class Round:
    """One round of a federation, as its server sees it."""

    number: int
    weights: Gradients  # {parameter name: tensor} as they were sent
    buffers: dict[str, Tensor]  # as they were sent
    clients: dict[str, Update]
    setting: Setting

    def gradient(self, client: str) -> Gradients:
        """The mean gradient over the steps of a client, and over the clients where an update is a sum.

        Exact, but for rounding, for one step of SGD without momentum: see `Setting.caveats`. Rounding to
        float32 leaves an error of about 6e-8 x |weight| / lr in every entry.

        Raises:
            UserError: the optimizer is another than SGD, or unknown.
        """
        if self.setting.optimizer != "sgd":
            raise UserError(self._not_made_by("sgd"))
        return self.update(client)

    def update(self, client: str) -> Gradients:
        """The mean of what the steps of SGD or Adam moved, over their rate; of SGD, a mean gradient.

        Raises:
            UserError: the optimizer is another one, or unknown.
        """
        setting, update = self.setting, self.clients[client]
        if setting.optimizer not in KNOWN or setting.lr is None or setting.local_steps is None:
            raise UserError(self._not_made_by(" or ".join(KNOWN)))
        decay = setting.weight_decay if setting.optimizer == "sgd" else 0.0
        return {
            name: -change / (value_for(name, setting.lr) * setting.local_steps * update.summed)
            - value_for(name, decay) * self.weights[name]
            for name, change in update.change.items()
        }

    def _not_made_by(self, optimizers: str) -> str:
        text = f"round {self.number}: expected steps of {optimizers}, to take a gradient of what came back"
        return f"{text}, got optimizer {self.setting.optimizer!r}"


class Returned(NamedTuple):
    """What came back from a client, for `write_round`."""

    tensors: StateDict
    examples: int | None = None
    summed: int = 1


def new_folder(folder: Path) -> Path:
    """A folder to record in.

    Raises:
        UserError: rounds are in it already: two recordings must not mix.
    """
    if any(folder.glob("round-*")):
        raise UserError(f"{folder}: expected a new or empty folder, found recorded rounds; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_round(
    folder: Path,
    number: int,
    sent: StateDict,
    returned: Mapping[str, Returned],
    setting: Setting,
    suffix: str = ".pt",
) -> None:
    """Write one round, whole or not at all.

    Args:
        folder: where the rounds are; it exists.
        number: of the round.
        sent: what the server sent.
        returned: {client: what came back}.
        setting: how clients train. Where it does not name the buffers, they are guessed.
        suffix: of the files: `.pt` or `.npz`.

    Raises:
        UserError: the round is there already, or a client's name cannot be a part of a file's.
    """
    if (folder / _name(number)).exists():
        raise UserError(
            f"{folder / _name(number)}: expected a round that is not recorded yet; choose another folder"
        )
    if wrong := [name for name in returned if not NAME.fullmatch(name)]:
        raise UserError(f"client {wrong[0]!r}: expected a name of letters, digits, '_', '.' and '-'")
    states = [each.tensors for each in returned.values()]
    buffers = guess_buffers(sent, *states) if setting.buffers is None else setting.buffers
    clients = {name: {"examples": each.examples, "summed": each.summed} for name, each in returned.items()}
    content = setting.settings() | {"buffers": buffers, "clients": clients}
    with tempfile.TemporaryDirectory(prefix=".round-", dir=folder) as temporary:
        whole = Path(temporary) / _name(number)
        whole.mkdir()
        (whole / "round.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        write_tensors(whole / f"weights{suffix}", sent)
        for name, each in returned.items():
            write_tensors(whole / f"{CLIENT}{name}{suffix}", each.tensors)
        whole.rename(folder / whole.name)


def _name(number: int) -> str:
    return f"round-{number:03d}"


def read_rounds(folder: Path) -> list[Round]:
    """All rounds of a folder, in their order.

    Raises:
        UserError: there are none, or bad ones; with a line for every problem of all of them.
    """
    paths = round_folders(folder)
    rounds: list[Round] = []
    problems: list[str] = []
    for number in paths:
        try:
            rounds.append(read_round(paths[number], number))
        except UserError as error:
            problems += error.problems
    for each in rounds[1:]:
        own, first = (one.weights | one.buffers for one in (each, rounds[0]))
        found = differences(own, first, str(paths[rounds[0].number]), frozenset(rounds[0].buffers))
        problems += (f"{paths[each.number]}: {text}" for text in found)
    if problems:
        raise UserError(*problems)
    return rounds


def round_folders(folder: Path) -> dict[int, Path]:
    """{number of a round: its folder}, in the order of the rounds.

    Raises:
        UserError: there are none.
    """
    matches = {path: re.fullmatch(r"round-(\d+)", path.name) for path in folder.glob("round-*")}
    paths = {int(match[1]): path for path, match in matches.items() if match}
    if twice := sorted(
        path.name for path, match in matches.items() if match and paths[int(match[1])] != path
    ):
        raise UserError(
            f"{folder}: expected one folder for each round, found {several(twice)} of the same number"
        )
    if not paths:
        raise UserError(f"{folder}: expected folders round-001, round-002, ..., found none")
    return dict(sorted(paths.items()))


def clients_of(path: Path) -> tuple[Setting, dict[str, Sender]]:
    """How the clients of a round train, and who is behind each file, without reading the tensors.

    Raises:
        UserError: a bad `round.json`, with a line for every problem.
    """
    setting, senders, problems = read_settings(path / "round.json")
    if problems:
        raise UserError(*problems)
    return setting, {name: senders.get(name, Sender()) for name in _names(path, senders)}


def _names(path: Path, senders: Mapping[str, Sender]) -> list[str]:
    return sorted({each.removeprefix(CLIENT) for each in stems(path, f"{CLIENT}*")} | senders.keys())


def read_round(path: Path, number: int, client: str | None = None) -> Round:
    """The round in a folder, with all clients or with one.

    Raises:
        UserError: a bad one; with a line for every problem.
    """
    setting, senders, problems = read_settings(path / "round.json")
    names = _names(path, senders) if client is None else [client]
    if not names:
        problems.append(f"{path}: expected a file {CLIENT}NAME.pt for each client, found none")
    states: dict[str, StateDict] = {}
    for stem in ["weights", *(f"{CLIENT}{name}" for name in names)]:
        try:
            states[stem] = read_state(path, stem)
        except UserError as error:
            problems += error.problems
    sent = states.pop("weights", None)
    if sent is not None:
        buffers = frozenset(guess_buffers(sent) if setting.buffers is None else setting.buffers)
        problems += (f"{path / 'round.json'}: {text}" for text in _unmatched(setting, sent, buffers))
        for stem, state in states.items():
            problems += (f"{path / stem}: {text}" for text in differences(state, sent, "weights", buffers))
    if problems or sent is None:
        raise UserError(*problems)
    weights = {name: each for name, each in sent.items() if name not in buffers}
    clients = {
        stem.removeprefix(CLIENT): _update(
            state, weights, setting, senders.get(stem.removeprefix(CLIENT), Sender())
        )
        for stem, state in states.items()
    }
    return Round(number, weights, {name: sent[name] for name in sent if name in buffers}, clients, setting)


def _unmatched(setting: Setting, sent: StateDict, buffers: frozenset[str]) -> Iterator[str]:
    """What the settings say of tensors that are not there, and do not say of those that are."""
    if unknown := sorted(buffers - sent.keys()):
        yield f"buffers: expected names of tensors that were sent, got {several(unknown)}"
    trained = [name for name in sent if name not in buffers]
    if whole := [name for name in trained if not sent[name].is_floating_point()]:
        yield f"buffers: expected {several(whole)} among them: whole numbers are not trained"
    for key in ("lr", "momentum", "weight_decay"):
        value = getattr(setting, key)
        missing = [name for name in trained if name not in value] if isinstance(value, dict) else []
        if missing:
            yield f"{key}: expected a number for {several(missing)}, found none"


def _update(state: StateDict, weights: Gradients, setting: Setting, sender: Sender) -> Update:
    change = {
        name: state[name] - sender.summed * sent if setting.holds == "weights" else state[name]
        for name, sent in weights.items()
    }
    buffers = {name: each for name, each in state.items() if name not in weights}
    return Update(change, buffers, sender.examples, sender.summed)
