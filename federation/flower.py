"""Flower: a mod that defends what a client sends, and strategies that record what the server sees.

Needs the package flwr, which nothing else here does: leakbench.flower is imported by name.
"""

import warnings
from collections.abc import Callable, Collection, Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for
from leakbench.defenses import Defense
from leakbench.federation.defended import defend_update, memoryless_defense
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import setting_of
from leakbench.federation.states import StateDict, differences, guess_buffers, several

try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ImportError as error:
    text = "leakbench.flower needs the package flwr; `pip install -e '.[flower]'` installs it"
    raise ImportError(text) from error

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def defend(
    defense: Defense | str,
    lr: float,
    local_steps: int = 1,
    buffers: Collection[str] | None = None,
    seed: int = 0,
) -> Mod:
    """A mod of a ClientApp that defends the update before it leaves the client.

        @app.train(mods=[defend("prune(ratio=0.9)", lr=0.1)])

    The defense is applied to the mean gradient of the local steps and scaled back: see `defend_update`.
    Place it last: mods before it, such as SecAgg+, then get the defended weights. Buffers, such as the
    statistics of a batch norm, pass as they are, and tell of the data; a warning says so.

    Args:
        defense: an object, or its text. It has to act on gradients.
        lr: the learning rate of the client's SGD, > 0.
        local_steps: how many steps it takes in a round.
        buffers: their names; None: guessed, see `guess_buffers`.
        seed: of the draws, with the round and the client (its partition-id, or else its node). Whoever knows
            the seed can subtract the noise: in a real deployment, pass
            `secrets.randbits(63)` and keep it secret.

    Raises:
        UserError: an unknown defense, one that needs more than gradients or has error feedback, or numbers
            out of range; in training a message that names no round, or that has not one ArrayRecord of the
            same names and shapes each way.
    """
    known = memoryless_defense(defense)
    if isinstance(lr, dict):
        raise UserError(f"defend: lr: expected a number > 0, got {lr}")
    setting_of("defend", {"optimizer": "sgd", "lr": lr, "local_steps": local_steps})

    def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        if message.metadata.message_type.partition(".")[0] != "train":
            return call_next(message, context)
        _, sent = _arrays(message.content)
        purpose = _round(message), str(context.node_config.get("partition-id", context.node_id))
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        key, returned = _arrays(reply.content)
        left = guess_buffers(returned) if buffers is None else buffers
        if problems := list(differences(returned, sent, "what was sent", frozenset(left))):
            raise UserError(*(f"defend: {problem}" for problem in problems))
        if left:
            text = "buffers leave the client undefended, and tell of its data"
            warnings.warn(f"leakbench: {several(list(left))}: {text}", stacklevel=2)
        generator = generator_for("federation", known.own_name, seed, *purpose)
        defended = defend_update(known, sent, returned, lr, local_steps, generator, left)
        reply.content[key] = ArrayRecord(defended)
        return reply

    return mod


class Recording(Strategy):  # type: ignore[misc]  # flwr is not there when types are checked
    """A strategy that records each round of another: what was sent, and what came back from each client.

        strategy = Recording(FedAvg(), "rounds", lr=0.1, local_steps=1)

    Args:
        strategy: what does the work.
        folder: a new folder for the rounds: `leakbench.federation.rounds` says what is in it.
        optimizer: of the clients, as far as the server knows it.
        setting: what else it knows of how they train: the fields of `Setting`.

    Raises:
        UserError: the folder holds rounds already, or settings that cannot be.
    """

    def __init__(
        self, strategy: Strategy, folder: str | PathLike[str], optimizer: str = "sgd", **setting: Any
    ):
        self.strategy = strategy
        self.setting = setting_of("Recording", {"optimizer": optimizer, **setting})
        self.folder = new_folder(Path(folder))
        self.sent: StateDict = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See `Strategy`; keeps what is sent."""
        self.sent = arrays.to_torch_state_dict()
        messages: Iterable[Message] = self.strategy.configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See `Strategy`; records what came back before anything is made of it."""
        replies = list(replies)
        returned = {str(each.metadata.src_node_id): _returned(each) for each in replies if each.has_content()}
        if returned:
            write_round(self.folder, server_round, self.sent, returned, self.setting)
        return self.strategy.aggregate_train(server_round, replies)  # type: ignore[no-any-return]

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See `Strategy`."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)  # type: ignore[no-any-return]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """See `Strategy`."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """See `Strategy`."""
        self.strategy.summary()


def _returned(reply: Message) -> Returned:
    _, state = _arrays(reply.content)
    counts = [
        each["num-examples"] for each in reply.content.metric_records.values() if "num-examples" in each
    ]
    return Returned(state, int(counts[0]) if counts else None)


def _arrays(content: RecordDict) -> tuple[str, StateDict]:
    """The one ArrayRecord of a message, by its key."""
    found = list(content.array_records)
    if len(found) != 1:
        raise UserError(f"leakbench.flower: expected one ArrayRecord in a message, found {found or 'none'}")
    return found[0], content.array_records[found[0]].to_torch_state_dict()


def _round(message: Message) -> int:
    """The number of the round, as Flower's strategies and its older workflows send it."""
    configs = message.content.config_records.values()
    numbers = [each["server-round"] for each in configs if "server-round" in each]
    numbers += [message.metadata.group_id] if message.metadata.group_id.isdigit() else []
    if not numbers:
        text = "expected 'server-round' in the ConfigRecord of a message, found none"
        raise UserError(f"defend: {text}: noise that is the same in every round could be taken away")
    return int(numbers[0])
