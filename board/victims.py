"""What the server sees of the protocol's victims under a defense, in files for attacks from outside.

OUT/PART/about.yaml               what it knows besides: model, protocol, defense, shape
OUT/PART/vocabulary.txt           of texts: the word pieces, one a line
OUT/PART/round-001/weights.npz    the weights that it sent; one round for each draw of them
OUT/PART/round-001/client-000.npz what came back from victim 0: how the weights moved
OUT/PART/round-001/round.json     how clients train

The rounds are those that `leakbench audit` attacks: see `leakbench.federation.rounds`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from leakbench.bench.attacks import Case, Spec
from leakbench.bench.datasets import open_dataset
from leakbench.bench.protocols import FedAvg, Protocol, SecureSum
from leakbench.bench.trial import Trial, prepare, spec_of
from leakbench.board.benchmark import ACCURACY, folder_of
from leakbench.defenses import Defense
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import Setting
from leakbench.sweeps.grid import trials
from leakbench.sweeps.spec import Sweep


@dataclass(frozen=True)
class Victims:
    """The victims of a part under one defense; a victim's number is its place."""

    part: str
    trials: tuple[Trial, ...]  # one of each, those with the same weights after one another
    data_root: Path

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return folder_of(self.part)

    @cached_property
    def spec(self) -> Spec:
        """What the server knows of the examples behind an update."""
        first = self.trials[0]
        return spec_of(open_dataset(first.dataset, self.data_root), first.protocol, first.model)

    def seen(self, trial: Trial) -> Case:
        """What the server gets of a victim."""
        return prepare(trial, 0, self.data_root)[0]

    def write(self, out: Path, version: str) -> None:
        """Write what the server sees and knows.

        Args:
            out: the folder of all parts.
            version: of the protocol.

        Raises:
            UserError: rounds are in the folder already.
            OSError: it cannot be written.
        """
        folder, number = new_folder(out / self.folder), 0
        for count, (_, own) in enumerate(groupby(self.trials, key=_weights), 1):
            returned: dict[str, Returned] = {}
            for trial in own:
                case, protocol = self.seen(trial), trial.protocol
                setting, moved = _training(protocol, case)
                returned[name_of(number)] = Returned(moved, protocol.images, protocol.seen)
                number += 1
            write_round(folder, count, case.model.state_dict(), returned, setting, ".npz")
        text = yaml.safe_dump({"version": version, **self._about()}, sort_keys=False, width=100)
        (folder / "about.yaml").write_text(text, encoding="utf-8")
        if self.spec.vocabulary:
            pieces = "\n".join(self.spec.vocabulary.pieces) + "\n"
            (folder / "vocabulary.txt").write_text(pieces, encoding="utf-8")

    def _about(self) -> dict[str, Any]:
        first, spec = self.trials[0], self.spec
        texts = spec.vocabulary is not None
        return {
            "part": self.part,
            "victims": len(self.trials),
            "defense": first.defense.address,
            "model": str(first.model),
            "protocol": str(first.protocol),
            "examples": spec.modality.name,
            "shape": list(spec.batch_shape),  # (N, C, H, W); of texts N and the most tokens of one
            "classes": spec.classes,
            "labels": "unknown",
            "gradient": "-client / (lr x local_steps x summed), each tensor; the numbers are in round.json",
            "hand_in": f"{self.folder}/{name_of(0)}{'.txt' if texts else '.npy'}, of victim 0",
        }


def victims_of(sweeps: Mapping[str, Sweep], defense: Defense, data_root: Path) -> Iterator[Victims]:
    """The victims of each part that attacks.

    Args:
        sweeps: {part: its sweep}, with that defense among others.
        defense: what the victims share their updates under.
        data_root: folder of the datasets that are not bundled.
    """
    for part, sweep in sweeps.items():
        if part != ACCURACY:
            own = (trial for trial in trials(sweep) if trial.defense == defense)
            first = {(*_weights(trial), trial.index): trial for trial in own}
            yield Victims(part, tuple(sorted(first.values(), key=_weights)), data_root)


def name_of(number: int) -> str:
    """Of a victim, in the names of files."""
    return f"{number:03d}"


def _weights(trial: Trial) -> tuple[str, str, str, int]:
    """Victims that agree in this belong to one round: the server sent all of them the same."""
    return str(trial.dataset), str(trial.model), str(trial.protocol), trial.model_seed


def _training(protocol: Protocol, case: Case) -> tuple[Setting, dict[str, Any]]:
    """How clients train, and how their weights moved, such that `Round.update` gives what was shared."""
    client = protocol.inner if isinstance(protocol, SecureSum) else protocol
    steps = client if isinstance(client, FedAvg) else FedAvg(client.batch_size, lr=1.0)
    setting = Setting(
        optimizer=steps.optimizer,
        lr=steps.lr,
        momentum=steps.momentum,
        local_steps=steps.local_steps,
        local_batch=steps.local_batch or steps.batch_size,
        holds="updates",
        buffers=tuple(name for name in case.model.state_dict() if name not in case.shared),
    )
    scale = -steps.lr * steps.local_steps * protocol.seen
    return setting, {name: scale * each for name, each in case.shared.items()}
