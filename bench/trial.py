"""One trial: a victim shares a gradient, a defense changes it, an attack inverts it, and it is scored."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import (
    ATTACKS,
    Attack,
    Case,
    Found,
    Knows,
    NotApplicableError,
    Resources,
    Spec,
    Status,
)
from leakbench.bench.chain import chain_of
from leakbench.bench.datasets import DATASETS, Dataset
from leakbench.bench.gradients import distance_by_layer, plain_match_loss
from leakbench.bench.hardware import hardware_of
from leakbench.bench.metrics import match, matched_mse, score
from leakbench.bench.models import MODELS, Model
from leakbench.bench.posterior import neg_log_posterior, signal_to_noise
from leakbench.bench.protocols import PROTOCOLS, FedSGD, Protocol
from leakbench.bench.victim import Exposed, Victim, find_victim
from leakbench.core.errors import one_line
from leakbench.core.registry import Registry
from leakbench.defenses import DEFENSES, Account, ContractError, Defense, Gradients, Point

SCHEMA_VERSION = 7  # raised when equal settings no longer give equal results

SECONDS_BETWEEN_NEWS = 0.5  # of steps taken

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
    protocol: Protocol = field(default_factory=FedSGD)

    @cached_property
    def key(self) -> str:
        """See `key_of`."""
        form = {
            name: value.canonical() if name in REGISTRIES else value for name, value in self._values().items()
        }
        return key_of(form)

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
    protocol: str
    attack: str
    defense: str
    family: str
    strength: float | None  # of the defense, within its family
    start: int
    status: str
    reason: str
    iterations: int | None  # outer steps
    match_loss: float | None  # of the reconstruction, worked out here and not by the attack
    objective: float | None  # what the attack minimised, as it says itself; of `dlg` the match loss
    finite: bool | None  # whether the objective never became NaN or infinite
    gradient_norm: float | None  # L2, of all parameters together, before the defense
    shared_norm: float | None  # and after it
    signal_to_noise: float | None  # |g|^2 / (entries x variance of the noise on each); None without noise
    sent_bytes: int | None  # of the gradient, as the defense sends it
    defense_seconds: float | None  # in the defense's methods; the first trial's have to warm up
    mse: float | None  # these four: of several images the mean of each one's, matched by `match`
    mse_raw: float | None
    psnr: float | None  # dB, peak 1.0
    ssim: float | None
    ssim_least: float | None  # of the images that share a gradient
    score: float | None  # how much leaked, in [0, 1]: the SSIM, 0 where it is below
    neg_log_posterior: float | None  # what an attacker would choose among attacks by: the least is best
    label_true: int | None  # these two: of the first image
    label_recovered: int | None
    label_correct: bool | None  # of all images
    classes: int | None  # that the label is one of
    threat: str | None  # what the attack was told besides: `defense`, or `nothing`
    seconds: float  # the trial's share of its worker's time, attack only
    device: str
    hardware: str | None  # see `hardware_of`
    torch_version: str


MEASURED = (  # the columns that only a trial with a result fills
    "iterations", "match_loss", "objective", "finite", "gradient_norm", "shared_norm",
    "signal_to_noise", "sent_bytes", "defense_seconds", "mse", "mse_raw", "psnr", "ssim", "ssim_least",
    "score", "neg_log_posterior", "label_true", "label_recovered", "label_correct", "classes", "threat",
    "hardware",
)  # fmt: skip


@dataclass
class Trace:
    """What happened on the way, as seen beside the true images; the attack never sees it."""

    truth: Tensor  # (N, C, H, W)
    image_mse: list[float] = field(default_factory=list)  # raw pixels, at the start and after each step
    snapshots: dict[int, Tensor] = field(default_factory=dict)  # {outer step: (N, C, H, W)}
    objective: list[float] = field(default_factory=list)  # at the start and after each step
    reconstruction: Tensor | None = None  # (N, C, H, W), not clipped, in the order of the true images
    distances: dict[int, dict[str, float]] = field(default_factory=dict)  # {outer step: `distance_by_layer`}
    input_errors: dict[str, float] = field(default_factory=dict)  # {layer: relative error of its input}


@dataclass(frozen=True)
class Result:
    """A finished trial."""

    row: Row
    trace: Trace | None  # None where the trial failed


@dataclass(frozen=True)
class Conditions:
    """What trials run under, besides what decides their results."""

    resources: Resources = field(default_factory=Resources)
    data_root: Path = Path("data")
    snapshot_every: int = 0  # outer steps between two pictures kept of a trial; 0 keeps none


def group_of(trial: Trial) -> tuple[str, ...]:
    """Trials that agree in this can share a batch: one shape of images, one architecture, one attack."""
    layers = str(trial.defense) if Point.MODEL in trial.defense.points() else ""
    return str(trial.dataset), str(trial.model), str(trial.protocol), str(trial.attack), layers


def _ignore(_news: Any) -> None:
    pass


@dataclass(frozen=True)
class Watcher:
    """Told how trials get on while they run."""

    preparing: Callable[[Trial | None], None] = _ignore  # what is a trial's alone begins; None: it is over
    moved: Callable[[int], None] = _ignore  # outer steps taken; those a trial did not need count as taken


def run_trials(
    trials: Iterable[Trial],
    conditions: Conditions,
    watcher: Watcher = Watcher(),  # frozen
) -> Iterator[Result]:
    """Run trials, taken one by one as there is room, and yield each result as it comes.

    Whatever goes wrong in a trial becomes its row.

    Args:
        trials: those that share a batch after one another.
        conditions: what they run under.
        watcher: told what happens on the way.
    """
    for _, group in groupby(trials, key=group_of):
        yield from _Group(conditions, watcher).run(group)


@dataclass(frozen=True)
class _Running:
    """A trial under attack, and what the attacker does not know of it."""

    trial: Trial
    case: Case
    trace: Trace
    labels: Tensor  # (N,)
    account: Account | None  # of its defense, whether the attacker is told it or not
    costs: dict[str, float | None]  # columns of its row


class _Group:
    """The trials that share a batch, and what is known of each while it runs."""

    def __init__(self, conditions: Conditions, watcher: Watcher):
        self.conditions = conditions
        self.watcher = watcher
        self.steps, self.told = 0, time.monotonic()  # outer steps that the watcher was not told of yet
        self.running: dict[int, _Running] = {}  # by number
        self.failed: list[Result] = []

    def run(self, group: Iterator[Trial]) -> Iterator[Result]:
        cases = self._cases(group)
        for case in cases:  # more than once only where a batch failed as a whole
            attack = self.running[case.number].trial.attack
            try:
                answers = attack.run(chain([case], cases), self.observe, self.conditions.resources)
                for number, found in answers:
                    yield self._answer(number, found)
                    yield from self._failures()
            except (Exception, SystemExit) as error:  # noqa: BLE001  # here an error becomes a row
                for each in self.running.values():
                    self.failed.append(self._failure(each.trial, error, len(each.trace.image_mse) - 1))
                self.running.clear()
            yield from self._failures()
        yield from self._failures()
        self._tell()

    def _count(self, steps: int) -> None:
        self.steps += steps
        if time.monotonic() - self.told >= SECONDS_BETWEEN_NEWS:
            self._tell()

    def _tell(self) -> None:
        self.watcher.moved(self.steps)
        self.steps, self.told = 0, time.monotonic()

    def _cases(self, group: Iterator[Trial]) -> Iterator[Case]:
        for number, trial in enumerate(group):
            self.watcher.preparing(trial)
            try:
                case, victim, exposed = prepare(trial, number, self.conditions.data_root)
                self.running[number] = _Running(
                    trial, case, Trace(victim.batch), victim.labels, exposed.account, costs(exposed)
                )
            except (Exception, SystemExit) as error:  # noqa: BLE001  # likewise, before the attack
                self.failed.append(self._failure(trial, error))
            self.watcher.preparing(None)
            if number in self.running:
                yield case

    def observe(
        self, numbers: list[int], steps: list[int], images: Tensor, labels: Tensor | None = None
    ) -> None:
        """See `Observer`."""
        traces = [self.running[number].trace for number in numbers]
        self._count(sum(step > 0 for step in steps))
        seen = images.cpu()
        truths = torch.stack([trace.truth for trace in traces])
        errors = matched_mse(seen, truths)
        logits = labels.cpu() if labels is not None else [None] * len(numbers)
        for number, step, image, error, label in zip(numbers, steps, seen, errors, logits, strict=True):
            trace, case = self.running[number].trace, self.running[number].case
            if step == 0:  # once more where an attack had to start again
                trace.image_mse.clear()
                trace.snapshots.clear()
                trace.distances.clear()
            trace.image_mse.append(error)
            if self.conditions.snapshot_every and step % self.conditions.snapshot_every == 0:
                trace.snapshots[step] = image.clone()
                if label is not None:
                    trace.distances[step] = distance_by_layer(case.model, case.shared, image, label)

    def _answer(self, number: int, found: Found | ContractError | NotApplicableError) -> Result:
        each = self.running[number]
        if isinstance(found, Exception):
            result = self._failure(each.trial, found, len(each.trace.image_mse) - 1)
        else:
            result = self._finish(each, found)
        del self.running[number]  # only now: a score that fails must not lose the trial
        return result

    def _finish(self, each: _Running, found: Found) -> Result:
        trial, case, trace, labels = each.trial, each.case, each.trace, each.labels
        self._count(trial.attack.budget - found.iterations)
        images, device = found.images.detach(), self.conditions.resources.device
        order = match(images, trace.truth)
        trace.objective = list(found.history)
        trace.reconstruction = images[order]
        if found.inputs:
            trace.input_errors = input_errors(case.model, case.spec.shape, trace.truth, found.inputs)
        trace.snapshots = {step: images[order] for step, images in trace.snapshots.items()}
        row = make_row(
            trial,
            device,
            status=found.status.value,
            reason=found.reason,
            iterations=found.iterations,
            match_loss=match_loss_of(case, found),
            objective=found.objective,
            finite=all(map(math.isfinite, found.history)),
            **each.costs,
            **asdict(score(trace.truth, trace.reconstruction)),
            neg_log_posterior=posterior_of(case, each.account, found),
            label_true=int(labels[0]),
            **_label_columns(found, order, labels),
            classes=case.spec.classes,
            threat="nothing" if case.account is None else Knows.DEFENSE.value,
            hardware=hardware_of(device),
            seconds=found.seconds,
        )
        return Result(row, trace)

    def _failures(self) -> Iterator[Result]:
        while self.failed:
            yield self.failed.pop(0)

    def _failure(self, trial: Trial, error: BaseException, steps: int = 0) -> Result:
        self._count(trial.attack.budget - max(steps, 0))
        return failure(trial, one_line(error), self.conditions.resources.device)


def input_errors(
    model: nn.Module, shape: tuple[int, int, int], truth: Tensor, inputs: Mapping[str, Tensor]
) -> dict[str, float]:
    """How far what an attack took for the inputs of layers is off, relative to them, from the last layer on.

    Args:
        model: the victim's model.
        shape: of an image.
        truth: the image (1, C, H, W).
        inputs: {see `Block.name`: what was found}.
    """
    layers = chain_of(model, shape)
    true = dict(zip((block.name for block in layers.blocks), layers.inputs_of(truth.double()), strict=True))
    return {
        name: float((found - true[name]).norm() / true[name].norm())
        for name, found in inputs.items()
        if name in true and found.shape == true[name].shape
    }


def match_loss_of(case: Case, found: Found) -> float | None:
    """Of what an attack found, as the harness works it out; None where it did not look for labels."""
    if found.labels is None:
        return None
    return plain_match_loss(case.model, case.shared, found.images.detach(), found.labels.detach())


def posterior_of(case: Case, account: Account | None, found: Found) -> float | None:
    """See `neg_log_posterior`; None where an attack did not look for labels."""
    if found.labels is None:
        return None
    images, labels = found.images.detach(), found.labels.detach()
    return neg_log_posterior(case.model, case.shared, account, images, labels)


def _label_columns(found: Found, order: list[int], labels: Tensor) -> dict[str, Any]:
    """What was recovered of the labels (N,), in the order of the true images."""
    if found.classes is None:
        return {"label_recovered": None, "label_correct": None}
    recovered = found.classes[order]
    return {
        "label_recovered": int(recovered[0]),
        "label_correct": bool((recovered == labels).all()),
    }


def failure(trial: Trial, reason: str, device: str) -> Result:
    """The result of a trial that has none, and why."""
    nothing = dict.fromkeys(MEASURED)
    row = make_row(trial, device, status=Status.ERROR.value, reason=reason, **nothing, seconds=0.0)
    return Result(row, None)


def make_row(trial: Trial, device: str, **measured: Any) -> Row:
    """The row of a trial, with what was measured of it."""
    return Row(
        key=trial.key,
        **trial.names(),
        family=trial.defense.family or trial.defense.name,
        strength=trial.defense.strength,
        **measured,
        device=device,
        torch_version=torch.__version__,
    )


def prepare(trial: Trial, number: int, data_root: Path) -> tuple[Case, Victim, Exposed]:
    """What the attacker gets of a trial; apart from it whom it attacks, and what that one exposes."""
    victim = victim_of(trial, data_root)
    exposed = victim.share(trial.defense, trial.protocol.rounds)
    spec = Spec(victim.images.shape, victim.images.classes, trial.protocol.batch_size)
    purpose = (trial.dataset.address, trial.index, trial.start)
    account = exposed.account if Knows.DEFENSE in trial.attack.knows else None
    return Case(number, exposed.network, exposed.shared, spec, purpose, account), victim, exposed


def victim_of(trial: Trial, data_root: Path) -> Victim:
    """The client of a trial."""
    own = range(trial.index, trial.index + trial.protocol.batch_size)
    return find_victim(trial.dataset, own, trial.model, trial.model_seed, data_root)


def costs(exposed: Exposed) -> dict[str, float | None]:
    """The columns of a row that tell what the defense did to the gradient, and what it takes."""
    return {
        "gradient_norm": norm_of(exposed.gradient),
        "shared_norm": norm_of(exposed.shared),
        "signal_to_noise": signal_to_noise(exposed.gradient, exposed.account),
        "sent_bytes": exposed.sent_bytes,
        "defense_seconds": exposed.seconds,
    }


def norm_of(gradients: Gradients) -> float:
    """The L2 norm of all gradients together."""
    return math.sqrt(sum(float(each.double().square().sum()) for each in gradients.values()))
