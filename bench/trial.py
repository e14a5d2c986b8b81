"""One trial: a victim shares a gradient, a defense changes it, an attack inverts it, and it is scored."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.attacks import ATTACKS, Attack, Start
from bench.attacks.base import Reconstruction, Status
from bench.datasets import DATASETS, Dataset, open_dataset
from bench.gradients import shared_gradient
from bench.metrics import mse, score
from bench.models import MODELS, Model
from bench.randomness import generator_for
from defenses import DEFENSES, Defense, Gradients
from defenses.registry import Registry

SCHEMA_VERSION = 1  # raised when equal settings no longer give equal results

REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "attack": ATTACKS,
    "defense": DEFENSES,
}


@dataclass(frozen=True)
class Trial:
    """Everything that decides a result. Equal key, equal result."""

    dataset: Dataset
    index: int
    model: Model
    model_seed: int
    attack: Attack
    defense: Defense
    start: int

    @cached_property
    def key(self) -> str:
        """32 hexadecimal digits: a hash of the trial's canonical form and of the schema version."""
        form = {
            name: value.canonical() if name in REGISTRIES else value for name, value in self._values().items()
        }
        text = json.dumps({"schema": SCHEMA_VERSION, **form}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def names(self) -> dict[str, Any]:
        """The trial as texts and numbers, from which `from_names` makes it again."""
        return {name: str(value) if name in REGISTRIES else value for name, value in self._values().items()}

    @classmethod
    def from_names(cls, names: dict[str, Any]) -> "Trial":
        """The trial that `names` describes."""
        return cls(
            **{
                name: REGISTRIES[name].parse(value) if name in REGISTRIES else value
                for name, value in names.items()
            }
        )

    def __reduce__(self) -> tuple[Callable[..., "Trial"], tuple[dict[str, Any]]]:
        # by name, so that a worker imports a user's file itself
        return Trial.from_names, (self.names(),)

    def _values(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Row:
    """What is kept of every trial, whatever became of it. None where there was nothing to measure."""

    key: str
    dataset: str
    index: int
    model: str
    model_seed: int
    attack: str
    defense: str
    family: str
    strength: float | None  # of the defense, within its family
    start: int
    status: str
    reason: str
    iterations: int | None  # outer steps
    match_loss: float | None  # lowest; the reconstruction is the image that has it
    mse: float | None
    mse_raw: float | None
    psnr: float | None  # dB, peak 1.0
    ssim: float | None
    label_true: int | None
    label_recovered: int | None
    label_correct: bool | None
    seconds: float
    device: str
    torch_version: str


MEASURED = (  # the columns that only a trial with a result fills
    "iterations", "match_loss", "mse", "mse_raw", "psnr", "ssim",
    "label_true", "label_recovered", "label_correct",
)  # fmt: skip


@dataclass
class Trace:
    """What happened on the way, as seen beside the true image; the attack never sees it."""

    truth: Tensor  # (C, H, W)
    snapshot_every: int  # outer steps between two pictures; 0 keeps none
    image_mse: list[float] = field(default_factory=list)  # raw pixels, at the start and after each step
    snapshots: dict[int, Tensor] = field(default_factory=dict)  # {outer step: (C, H, W)}
    match_loss: list[float] = field(default_factory=list)  # at the start and after each step
    reconstruction: Tensor | None = None  # (C, H, W), not clipped

    def observe(self, step: int, image: Tensor) -> None:
        """See `Attack.reconstruct`."""
        seen = image.cpu()
        self.image_mse.append(mse(self.truth, seen))
        if self.snapshot_every and step % self.snapshot_every == 0:
            self.snapshots[step] = seen.clone()


@dataclass(frozen=True)
class Result:
    """A finished trial."""

    row: Row
    trace: Trace | None  # None where the trial failed


def run_trial(trial: Trial, device: str, data_root: Path, snapshot_every: int) -> Result:
    """Run one trial. This is the one place where whatever goes wrong becomes a row."""
    began = time.perf_counter()
    try:
        measured, trace = _attempt(trial, device, data_root, snapshot_every)
    except Exception as error:  # noqa: BLE001
        measured, trace = _failure(error), None
    row = Row(
        key=trial.key,
        **trial.names(),
        family=trial.defense.family or trial.defense.name,
        strength=trial.defense.strength,
        **measured,
        seconds=time.perf_counter() - began,
        device=device,
        torch_version=torch.__version__,
    )
    return Result(row, trace)


def victim_gradient(trial: Trial, model: torch.nn.Module, image: Tensor, label: int) -> Gradients:
    """What the victim shares, on the CPU.

    The random draws of a defense are addressed by its name and not by its settings, nor by the
    start: noise of two strengths is the same noise scaled, and all restarts see one gradient.
    """
    purpose = (trial.defense.name, str(trial.dataset), trial.index, str(trial.model), trial.model_seed)
    return trial.defense(shared_gradient(model, image, label), generator_for("defense", *purpose))


def _attempt(trial: Trial, device: str, data_root: Path, snapshot_every: int) -> tuple[dict[str, Any], Trace]:
    images = open_dataset(trial.dataset, data_root)
    image, label = images[trial.index]
    model = trial.model.build(images.shape, images.classes, trial.model_seed)
    shared = victim_gradient(trial, model, image, label)
    start = Start.draw(images.shape, images.classes, str(trial.dataset), trial.index, trial.start)

    trace = Trace(image, snapshot_every)
    found = trial.attack.reconstruct(
        model.to(device),
        {name: gradient.to(device) for name, gradient in shared.items()},
        Start(start.image.to(device), start.label_logits.to(device)),
        trace.observe,
    )
    trace.match_loss = found.history
    trace.reconstruction = found.image.cpu()
    return _measure(found, image, label), trace


def _measure(found: Reconstruction, image: Tensor, label: int) -> dict[str, Any]:
    recovered = int(found.label_logits.argmax())
    return {
        "status": found.status.value,
        "reason": found.reason,
        "iterations": found.iterations,
        "match_loss": found.match_loss,
        **asdict(score(image, found.image.cpu())),
        "label_true": label,
        "label_recovered": recovered,
        "label_correct": recovered == label,
    }


def _failure(error: Exception) -> dict[str, Any]:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return {"status": Status.ERROR.value, "reason": reason, **dict.fromkeys(MEASURED)}
