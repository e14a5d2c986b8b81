"""The row of a trial: what is measured of its result, and the result itself."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import Case, Found, Knows, Status
from leakbench.bench.chain import chain_of
from leakbench.bench.client import expected_update
from leakbench.bench.gradients import norm_of, squared_distance
from leakbench.bench.modalities import MODALITIES, Spec
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.posterior import neg_log_posterior, signal_to_noise
from leakbench.bench.protocols import Protocol
from leakbench.bench.trace import Trace
from leakbench.bench.trial import REGISTRIES, Trial, described
from leakbench.bench.victim import Exposed
from leakbench.defenses import Account


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
    dataset_name: str  # these ten: what the texts above are made of, see `described`
    model_name: str
    protocol_name: str
    attack_name: str
    defense_name: str
    dataset_settings: str
    model_settings: str
    protocol_settings: str
    attack_settings: str
    defense_settings: str
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
    modality: str | None  # images or texts
    score: float | None  # how much leaked, in [0, 1]: the SSIM, 0 where it is below; of texts ROUGE-L
    input_score: float | None  # of the batch that a defense made of it; None: it is the same
    mse: float | None  # scores, None where the truth is unknown; these four, of images: the mean over them
    mse_raw: float | None
    psnr: float | None  # dB, peak 1.0
    ssim: float | None
    ssim_least: float | None  # of the images that share a gradient
    rouge_1: float | None  # these seven, of texts: the mean over them, see `TokenScores`
    rouge_2: float | None
    rouge_l: float | None
    token_accuracy: float | None
    bag_recall: float | None
    bag_precision: float | None
    exact: float | None
    neg_log_posterior: float | None  # what an attacker would choose among attacks by: the least is best
    label_true: int | None  # these two: of the first example; of a masked text the first hidden word
    label_recovered: int | None  # None where the attack was told it, too
    label_correct: bool | None  # of all examples
    label_recall: float | None  # the share of their labels that were recovered, in whatever order
    classes: int | None  # that the label is one of
    threat: str | None  # what the attack knew besides: see `threat_of`
    seconds: float  # the trial's share of its worker's time, attack only
    device: str
    hardware: str | None  # see `hardware_of`
    torch_version: str


SCORES = ("score", *(column for each in MODALITIES.values() for column in each.columns))
MEASURED = (  # the columns that only a trial with a result fills
    "iterations", "match_loss", "objective", "finite", "gradient_norm", "shared_norm",
    "signal_to_noise", "sent_bytes", "defense_seconds", "modality", "input_score", *SCORES,
    "neg_log_posterior", "label_true", "label_recovered", "label_correct", "label_recall", "classes",
    "threat", "hardware",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A finished trial."""

    row: Row
    trace: Trace | None  # None where the trial failed


def make_row(trial: Trial, device: str, **measured: Any) -> Row:
    """The row of a trial, with what was measured of it."""
    return Row(
        key=trial.key,
        **trial.names(),
        **described(**{kind: getattr(trial, kind) for kind in REGISTRIES}),
        family=trial.defense.own_family,
        strength=trial.defense.strength,
        **measured,
        device=device,
        torch_version=torch.__version__,
    )


def failure(trial: Trial, reason: str, device: str) -> Result:
    """The result of a trial that has none, and why."""
    nothing = dict.fromkeys(MEASURED)
    row = make_row(trial, device, status=Status.ERROR.value, reason=reason, **nothing, seconds=0.0)
    return Result(row, None)


def costs(exposed: Exposed) -> dict[str, float | None]:
    """The columns of a row that tell what the defense did to the gradient, and what it takes."""
    return {
        "gradient_norm": norm_of(exposed.gradient),
        "shared_norm": norm_of(exposed.shared),
        "signal_to_noise": signal_to_noise(exposed.gradient, exposed.account),
        "sent_bytes": exposed.sent_bytes,
        "defense_seconds": exposed.seconds,
    }


def match_loss_of(case: Case, protocol: Protocol, found: Found) -> float | None:
    """Of what an attack found, as the harness works it out; None where it did not look for labels."""
    if found.labels is None:
        return None
    dummy = expected_update(case.model, protocol, *_answer(case, found.x, found.labels))
    return squared_distance(dummy, case.shared)


def posterior_of(case: Case, protocol: Protocol, account: Account | None, found: Found) -> float | None:
    """See `neg_log_posterior`; None where an attack did not look for labels."""
    if found.labels is None:
        return None
    seen = case.spec.modality.seen(found.x.detach())
    dummy = expected_update(case.model, protocol, *_answer(case, seen, found.labels))
    return neg_log_posterior(dummy, case.shared, account, case.spec.modality.prior(seen))


def _answer(case: Case, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What a client would have trained on if these were its examples."""
    labels = labels.detach()
    return case.spec.modality.inputs(x.detach(), labels, case.spec), labels


def threat_of(case: Case, knows: Collection[Knows]) -> str:
    """What the attack knew besides the network and what was shared: `defense, protocol`, or `nothing`.

    It is `unknown` of what was rebuilt elsewhere.
    """
    if Knows.UNKNOWN in knows:
        return Knows.UNKNOWN.value
    known = {
        Knows.DEFENSE: case.account,
        Knows.PROTOCOL: case.protocol,
        Knows.LABELS: case.labels,
        Knows.LENGTH: case.lengths,
    }
    return ", ".join(each.value for each, what in known.items() if what is not None) or "nothing"


def score_columns(truth: Tensor | None, found: Tensor, spec: Spec) -> dict[str, float | None]:
    """See `Modality.scores`; each is None where the true examples are unknown, or are of another modality."""
    scores: dict[str, float | None] = dict.fromkeys(SCORES)
    if truth is not None:
        scores |= spec.modality.scores(found, truth, spec)
    return scores


def input_score_of(entered: Tensor | None, found: Tensor, spec: Spec) -> float | None:
    """`score` of what was found (N, ...) against what entered the network; None: the batch itself did."""
    if entered is None:
        return None
    found, entered = spec.modality.in_range(found, entered)
    order = spec.modality.match(found, entered, spec)
    return spec.modality.scores(found[order], entered, spec)["score"]


def asked_for(labels: Tensor) -> list[int]:
    """The labels (N,) as they are; of masked texts (N, L) the hidden words, one after the other."""
    found: list[int] = labels[labels != NOT_ASKED].tolist()
    return found


def label_columns(recovered: list[int], labels: Tensor | None) -> dict[str, Any]:
    """What was recovered of the labels, in their order; None where they are unknown or none was."""
    first, true = next(iter(recovered), None), None if labels is None else asked_for(labels)
    return {
        "label_true": next(iter(true or ()), None),
        "label_recovered": first,
        "label_correct": recovered == true if recovered and true else None,
        "label_recall": _recall(recovered, true) if recovered and true else None,
    }


def _recall(recovered: list[int], true: list[int]) -> float:
    return (Counter(recovered) & Counter(true)).total() / len(true)


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
