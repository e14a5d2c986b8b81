"""The row of a training: how it ended, and how accurate its model is."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.attacks import Status
from leakbench.bench.hardware import hardware_of
from leakbench.bench.training import Training
from leakbench.bench.trial import described

Weights = dict[str, Tensor]


Ending = tuple[Status, str]


@dataclass(frozen=True)
class TrainingRow:
    """What is kept of every training, whatever became of it."""

    key: str
    train: str
    test: str
    model: str
    seed: int
    protocol: str
    recipe: str
    defense: str
    family: str
    strength: float | None  # of the defense, within its family
    model_name: str  # these eight: what the texts above are made of, see `described`
    protocol_name: str
    recipe_name: str
    defense_name: str
    model_settings: str
    protocol_settings: str
    recipe_settings: str
    defense_settings: str
    status: str  # converged: trained to its end; diverged: a shared gradient was not finite; error
    reason: str
    steps: int | None  # of the optimiser
    accuracy: float | None  # on the test images, of the last weights
    noise_multiplier: float | None  # these two and the steps decide epsilon, see `epsilon_of`
    sampling_rate: float
    seconds: float  # its share of the time
    device: str
    hardware: str | None  # see `hardware_of`; None where it failed
    torch_version: str


@dataclass(frozen=True)
class Trained:
    """A training that has ended."""

    row: TrainingRow
    weights: dict[int, Weights]  # {epoch: state dict}, of the epochs that were asked for


def training_failure(training: Training, reason: str, device: str) -> Trained:
    """A training that has no result, and why."""
    return Trained(training_row(training, (Status.ERROR, reason), 0, math.nan, 0.0, device), {})


def training_row(
    training: Training, ending: Ending, steps: int, accuracy: float, seconds: float, device: str
) -> TrainingRow:
    """The row of a training that ended so, with `accuracy` on the test images."""
    failed = ending[0] == Status.ERROR
    return TrainingRow(
        key=training.key,
        train=str(training.train),
        test=str(training.test),
        model=str(training.model),
        seed=training.seed,
        protocol=str(training.protocol),
        recipe=str(training.recipe),
        defense=str(training.defense),
        family=training.defense.own_family,
        strength=training.defense.strength,
        **described(
            model=training.model,
            protocol=training.protocol,
            recipe=training.recipe,
            defense=training.defense,
        ),
        status=ending[0].value,
        reason=ending[1],
        steps=None if failed else steps,
        accuracy=None if failed else accuracy,
        noise_multiplier=training.noise_multiplier,
        sampling_rate=training.sampling_rate,
        seconds=seconds,
        device=device,
        hardware=None if failed else hardware_of(device),
        torch_version=torch.__version__,
    )
