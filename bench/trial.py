"""The trial: everything that decides a result, and what its attacker gets of it."""

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from leakbench.bench.attacks import ATTACKS, Attack, Case, Knows, Spec
from leakbench.bench.before_draws import as_attacked
from leakbench.bench.datasets import DATASETS, Dataset, Recorded, Source, Texts
from leakbench.bench.job import Job
from leakbench.bench.models import MODELS, Model
from leakbench.bench.protocols import PROTOCOLS, FedSGD, Protocol
from leakbench.bench.recorded import RecordedVictim, find_recorded
from leakbench.bench.victim import Exposed, Victim, find_victim
from leakbench.core.configured import Configured
from leakbench.core.registry import Registry
from leakbench.defenses import DEFENSES, Defense, Point

SCHEMA_VERSION = 8  # raised when equal settings no longer give equal results


REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "protocol": PROTOCOLS,
    "attack": ATTACKS,
    "defense": DEFENSES,
}


def key_of(form: dict[str, Any]) -> str:
    """32 hexadecimal digits: a hash of a canonical form and of the schema version."""
    text = json.dumps({"schema": SCHEMA_VERSION, **form}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def described(**values: Configured) -> dict[str, Any]:
    """`{kind}_name` and `{kind}_settings`, as JSON and with defaults, of what a row is about."""
    names: dict[str, Any] = {f"{kind}_name": value.name for kind, value in values.items()}
    return names | {f"{kind}_settings": json.dumps(value.settings()) for kind, value in values.items()}


@dataclass(frozen=True)
class Trial(Job):
    """An attack on what a client shares under a defense."""

    dataset: Dataset
    index: int
    model: Model
    model_seed: int
    attack: Attack
    defense: Defense
    start: int
    protocol: Protocol = field(default_factory=FedSGD)

    @cached_property
    def key(self) -> str:
        """See `key_of`."""
        kinds = REGISTRIES.keys() - {"dataset"}
        values = self._values().items()
        form = {name: value.canonical() if name in kinds else value for name, value in values}
        return key_of({**form, "dataset": self.dataset.canonical_at(self.index)})

    @property
    def steps(self) -> int:
        """See `Job.steps`."""
        return self.attack.budget

    @property
    def group(self) -> tuple[str, ...]:
        """See `Job.group`: one shape of images, one architecture, one attack."""
        layers = str(self.defense) if Point.MODEL in self.defense.points() else ""
        return str(self.dataset), str(self.model), str(self.protocol), str(self.attack), layers

    def names(self) -> dict[str, Any]:
        """See `Job.names`."""
        return {name: str(value) if name in REGISTRIES else value for name, value in self._values().items()}

    @classmethod
    def from_names(cls, names: dict[str, Any]) -> "Trial":
        """See `Job.from_names`."""
        return cls(
            **{
                name: REGISTRIES[name].parse(value) if name in REGISTRIES else value
                for name, value in names.items()
            }
        )

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


def prepare(trial: Trial, number: int, data_root: Path) -> tuple[Case, Victim | RecordedVictim, Exposed]:
    """What the attacker gets of a trial; apart from it whom it attacks, and what that one exposes."""
    victim = victim_of(trial, data_root)
    exposed = victim.share(trial.defense, trial.protocol)
    spec = spec_of(victim.source, trial.protocol, trial.model)
    purpose = (trial.dataset.address, trial.index, trial.start)
    account = exposed.account if Knows.DEFENSE in trial.attack.knows else None
    defense = trial.defense if Knows.DEFENSE in trial.attack.knows else None
    protocol = trial.protocol if Knows.PROTOCOL in trial.attack.knows else None
    labels = victim.labels if Knows.LABELS in trial.attack.knows else None
    lengths = victim.lengths if Knows.LENGTH in trial.attack.knows else None
    case = Case(
        number, exposed.network, exposed.shared, spec, purpose, account, defense, protocol,
        labels=labels, lengths=lengths,
    )  # fmt: skip
    return as_attacked(case, trial.attack, trial.defense), victim, exposed


def spec_of(source: Source, protocol: Protocol, model: Model) -> Spec:
    """What a server knows of the examples behind what it sees."""
    spec = Spec(
        source.shape, source.classes, protocol.images, protocol.steps, protocol.signed, source.modality
    )
    if not isinstance(source, Texts):
        return spec
    return replace(
        spec,
        vocabulary=source.vocabulary,
        masked=model.masked,
        classes=len(source.vocabulary) if model.masked else source.classes,
    )


def victim_of(trial: Trial, data_root: Path) -> Victim | RecordedVictim:
    """The client of a trial."""
    own = range(trial.index, trial.index + trial.protocol.images)
    if isinstance(trial.dataset, Recorded):
        return find_recorded(trial.dataset, own, trial.model, trial.model_seed, data_root)
    return find_victim(trial.dataset, own, trial.model, trial.model_seed, data_root)
