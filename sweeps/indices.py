"""Security indices: which there are, and where they are kept.

DIR/indices.parquet/    one row per layer; a run has it next to its trials
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from leakbench.bench.attacks import NotApplicableError
from leakbench.bench.datasets import Dataset, Recorded
from leakbench.bench.index import LayerIndex, ModelIndex, index_of
from leakbench.bench.modalities import IMAGES
from leakbench.bench.models import Model
from leakbench.bench.trial import described, key_of
from leakbench.bench.victim import Exposed, Victim, find_victim
from leakbench.defenses import Defense, NoDefense, Point
from leakbench.sweeps.parts import Parts
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.tables import plain_table


@dataclass(frozen=True)
class IndexRow:
    """A layer of a network at one image, and what a defense left of its equations."""

    key: str  # of the network, the image and the defense
    dataset: str
    index: int
    model: str
    model_seed: int
    defense: str
    dataset_name: str
    model_name: str
    defense_name: str
    dataset_settings: str
    model_settings: str
    defense_settings: str
    equations: str  # a hash of which there are: defenses that keep the same have the same index
    layer: int  # from the image on
    name: str
    unknowns: int
    weight_rows: int
    gradient_rows: int
    all_rows: int
    rank: float
    error: float | None
    condition: float
    seconds: float  # of the whole index


INDICES = plain_table("indices", IndexRow)


@dataclass(frozen=True)
class Probe:
    """A network at one image under a defense, whose index is asked for."""

    dataset: Dataset
    index: int
    model: Model
    model_seed: int
    defense: Defense

    @property
    def key(self) -> str:
        """See `key_of`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        form = {n: v if isinstance(v, int) else v.canonical() for n, v in values.items()}
        return key_of({"what": "security index", **form})

    def __str__(self) -> str:
        weights = f" weights {self.model_seed}" if self.model_seed else ""
        return f"{self.model}{weights} · {self.dataset} {self.index} · {self.defense}"


def probes_of(sweep: Sweep) -> Iterator[Probe]:
    """Those that a sweep asks for: each network at the first image, under each defense."""
    if "index" not in sweep.probes:
        return
    for data, model, seed in product(sweep.datasets, sweep.models, sweep.model_seeds):
        for defense in sweep.defenses:
            yield Probe(data.value, data.indices[0], model.value, seed, defense.value)


class Indices:
    """The indices on disk. Any number of readers, one writer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._parts = Parts(folder / f"{INDICES.name}.parquet", INDICES.schema)

    def rows(self, keys: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per layer, in the order of the keys; of all there are where none are given."""
        found: pd.DataFrame = self._parts.read(keys=keys).to_pandas(integer_object_nulls=True)
        found = found.astype(INDICES.dtypes).drop_duplicates(["key", "layer"])
        order = {key: place for place, key in enumerate(found["key"].unique() if keys is None else keys)}
        return found.sort_values(
            ["key", "layer"],
            key=lambda each: each.map(order) if each.name == "key" else each,
            ignore_index=True,
        )

    def repair(self, aside: Path) -> None:
        """See `Parts.repair`; what was set aside is measured again."""
        self._parts.repair(aside)

    def measure(self, probe: Probe, data_root: Path) -> bool:
        """Measure the index unless it is stored; returns whether it was measured.

        Raises:
            NotApplicableError: there is no index of such a network or defense.
        """
        if len(self._parts.read(["key"], [probe.key])):
            return False
        victim, exposed = _share(probe, data_root)
        equations = _hash_of_equations(probe, exposed)
        alike = self._parts.find("equations", [equations])
        if alike:
            first = [each for each in alike if each["key"] == alike[0]["key"]]
            own = {"key": probe.key, "defense": str(probe.defense), **described(defense=probe.defense)}
            rows = [{**row, **own} for row in first]
        else:
            rows = _measured(probe, victim, exposed, equations)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._parts.append(rows)
        return True


def index_problem(probe: Probe) -> str:
    """Why there is no index, as far as that is known before anything is measured; empty if nothing is."""
    if probe.dataset.modality is not IMAGES:
        return f"{probe.dataset}: expected images, found {probe.dataset.modality.name}"
    if isinstance(probe.dataset, Recorded):
        return f"{probe.dataset}: expected images that are known, found a recorded update"
    problem = _problem_of_defense(probe.defense)
    return problem and f"{probe.defense}: {problem}"


def _problem_of_defense(defense: Defense) -> str:
    if Point.BATCH in defense.points():
        return "expected a defense that leaves the images as they are: of changed ones there is no index"
    if defense.points() - {Point.MODEL} and type(defense).account is Defense.account:
        text = "expected a defense that says what it leaves of a gradient, by `account`, found none"
        return f"{text}; docs/DEFENSES.md tells how"
    return ""


def _share(probe: Probe, data_root: Path) -> tuple[Victim, Exposed]:
    problem = index_problem(probe)
    if problem:
        raise NotApplicableError(problem)
    own = range(probe.index, probe.index + 1)
    victim = find_victim(probe.dataset, own, probe.model, probe.model_seed, data_root)
    return victim, victim.share(probe.defense)


def _hash_of_equations(probe: Probe, exposed: Exposed) -> str:
    """Of the network, the image and which entries of the gradient were kept."""
    changed = probe.defense if Point.MODEL in probe.defense.points() else NoDefense()
    digest = sha256(replace(probe, defense=changed).key.encode())
    kept = exposed.account.kept if exposed.account else None
    if kept and not all(bool(each.all()) for each in kept.values()):
        for name, each in kept.items():
            digest.update(name.encode() + np.packbits(each.numpy()).tobytes())
    return digest.hexdigest()[:32]


def _measured(probe: Probe, victim: Victim, exposed: Exposed, equations: str) -> list[dict[str, Any]]:
    began = perf_counter()
    try:
        found = index_of(exposed.network, victim.batch, victim.labels, exposed.account)
    except NotApplicableError as error:
        raise NotApplicableError(f"{probe.model}: {error}") from error
    seconds = perf_counter() - began
    rows = (
        IndexRow(
            key=probe.key,
            dataset=str(probe.dataset),
            index=probe.index,
            model=str(probe.model),
            model_seed=probe.model_seed,
            defense=str(probe.defense),
            **described(dataset=probe.dataset, model=probe.model, defense=probe.defense),
            equations=equations,
            layer=number,
            **asdict(layer),
            seconds=seconds,
        )
        for number, layer in enumerate(found.layers, 1)
    )
    return [asdict(row) for row in rows]


def as_index(rows: pd.DataFrame) -> ModelIndex:
    """The index whose layers these rows are."""
    names = [each.name for each in fields(LayerIndex)]
    layers = rows.sort_values("layer")[names].astype({"error": object})
    layers["error"] = layers["error"].where(layers["error"].notna(), None)
    return ModelIndex(tuple(LayerIndex(*each) for each in layers.itertuples(index=False, name=None)))
