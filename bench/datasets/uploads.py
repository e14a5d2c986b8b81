"""The updates in a folder of recorded rounds, and the protocol by which each was made."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from leakbench.bench.protocols import FedAvg, FedSGD, Protocol
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.federation.rounds import clients_of, round_folders
from leakbench.federation.setting import KNOWN, Sender, Setting


@dataclass(frozen=True)
class Upload:
    """One update that a server received."""

    path: Path  # the folder of its round, or the file of its gradient
    client: str
    round: int | None = None
    setting: Setting | None = None  # how clients train; None: not in a round
    sender: Sender = field(default_factory=Sender)

    @property
    def examples(self) -> int | None:
        """How many images are behind it: those of its steps, or all of the client's if they are fewer."""
        setting, sender = self.setting, self.sender
        if setting is None or setting.local_batch is None or setting.local_steps is None:
            return sender.examples
        of_steps = setting.local_batch * setting.local_steps * sender.summed
        return min(of_steps, sender.examples or of_steps)

    def made_by(self, examples: int) -> Protocol:
        """The protocol that made this update; `examples` is the number of images if none was recorded.

        One step of SGD shares a gradient. Several steps, or one of Adam, are those of `fedavg`, as far as one
        rate and one momentum are for all parameters. A sum is taken for the update of one client.

        Raises:
            UserError: more images or steps than a protocol can have.
        """
        try:
            return self._made_by(examples)
        except SettingError as error:
            where = self.path / "round.json" if self.setting else self.path
            raise UserError(f"{where}: client {self.client}: {error}") from None

    def _made_by(self, examples: int) -> Protocol:
        setting, count = self.setting, self.examples or examples
        if setting is None or setting.local_steps is None or setting.optimizer not in KNOWN:
            return FedSGD(count)
        one_step = setting.optimizer == "sgd" and setting.local_steps == 1
        if (
            one_step
            or setting.lr is None
            or isinstance(setting.lr, dict)
            or isinstance(setting.momentum, dict)
        ):
            return FedSGD(count)
        batch = setting.local_batch or count
        return FedAvg(
            count,
            local_steps=setting.local_steps,
            local_batch=batch if batch < count and count % batch == 0 and self.sender.summed == 1 else 0,
            lr=setting.lr,
            momentum=setting.momentum if setting.optimizer == "sgd" else 0.0,
            optimizer="sgd" if setting.optimizer == "sgd" else "adam",
        )


@lru_cache  # for every trial; a round that is added changes the time of the folder
def uploads_below(folder: Path, _resolved: Path, _modified: int) -> tuple[Upload, ...]:
    """The updates of all rounds.

    Raises:
        UserError: no rounds, or bad settings of them, with a line for every problem.
    """
    found: list[Upload] = []
    problems: list[str] = []
    for number, path in round_folders(folder).items():
        try:
            setting, senders = clients_of(path)
        except UserError as error:
            problems += error.problems
            continue
        found += (Upload(path, name, number, setting, each) for name, each in senders.items())
    if problems:
        raise UserError(*problems)
    return tuple(found)


@lru_cache  # likewise
def uploads_made_by(protocol: Protocol, folder: Path, resolved: Path, modified: int) -> tuple[Upload, ...]:
    """Those of `uploads_below` that this protocol made, also where their number of images is not known."""
    everything = uploads_below(folder, resolved, modified)
    return tuple(each for each in everything if each.made_by(protocol.images) == protocol)
