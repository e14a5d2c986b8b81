"""Reads the labels of several images off their mean gradient, from whatever a defense leaves of it.

With p_k the mean probability of class k, n_k of the N labels in class k, and a_k the mean gradient of the
score of k, the gradient is about s sum_k (p_k - n_k / N) a_k. Random images in place of the unknown ones tell
p and a, and how far single images are from them. The labels are the most likely n: weighted least squares
over what is left of all layers, and a multinomial prior. There are two estimates: at s = 1, and at the best s
of all, because updates may be clipped or have several steps, and random images mislead a trained network.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leakbench.bench.attacks.base import Case
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.posterior import kept_of, variance_of
from leakbench.core.randomness import generator_for

PROBES = 32  # random images, in two halves
MOST = 10_000_000  # numbers in the gradients of all class scores; the last layers tell most of the class
LEAST = 1e-16  # the variance of an entry that is the same for all images, without noise

Misfit = Callable[[Sequence[int]], float]  # of labels, in any order


@dataclass(frozen=True)
class _Entries:
    """Entries (n,) of a gradient, and what is expected of them; in float64."""

    shared: Tensor  # (n,)
    scores: Tensor  # (K, n): the mean gradient of each class score
    probabilities: Tensor  # (K,)
    spread: Tensor  # (n,): the variance of a mean over the images
    noise: Tensor  # (n,): the variance that the defense adds; infinite where it leaves nothing

    def residual(self, labels: Sequence[int]) -> Tensor:
        """The mean of p - y (K,) over images with these labels."""
        counts = torch.bincount(torch.tensor(labels), minlength=len(self.probabilities))
        return self.probabilities - counts / len(labels)


def batch_readings(case: Case) -> list[Tensor]:
    """Estimates of the labels (N,) of several images, each sorted by class, without duplicates."""
    entries = _entries(case)
    scaled = case.account is not None and case.account.scaled
    magnitudes = max(len(each.abs().unique()) for each in case.shared.values())  # one if these are signs
    misfits = [_misfit(entries, free) for free in ([True] if scaled else [False, True]) if magnitudes > 1]
    if magnitudes <= 2:
        misfits.append(_misfit_of_signs(entries))
    found = [_best(misfit, case.spec.classes, case.spec.count) for misfit in misfits]
    return [torch.tensor(each) for each in dict.fromkeys(found)]


def _best(misfit: Misfit, classes: int, count: int) -> tuple[int, ...]:
    """The labels of least misfit, added one by one, then exchanged one by one as long as that helps."""
    labels: list[int] = []
    while len(labels) < count:
        labels = min(([*labels, label] for label in range(classes)), key=misfit)
    least = math.inf
    while (now := misfit(labels)) < least:
        least = now
        exchanged = (
            [*labels[:place], label, *labels[place + 1 :]]
            for place in range(count)
            for label in range(classes)
        )
        labels = min(exchanged, key=misfit)
    return tuple(sorted(labels))


def _misfit(entries: _Entries, free: bool) -> Misfit:
    """The negative log-posterior with Gaussian errors, but a constant; at the best scale if that is free."""
    weighted = entries.scores / (entries.spread + entries.noise)
    gram, inner = weighted @ entries.scores.T, weighted @ entries.shared

    def misfit(labels: Sequence[int]) -> float:
        residual = entries.residual(labels)
        square, product = float(residual @ gram @ residual), float(residual @ inner)
        scale = max(product, 0.0) / (square or 1.0) if free else 1.0
        return scale * (scale * square / 2 - product) + _prior(labels)

    return misfit


def _misfit_of_signs(entries: _Entries) -> Misfit:
    """The negative log-posterior of the signs that were shared."""
    signs, deviation = entries.shared.sign(), entries.spread.sqrt()

    def misfit(labels: Sequence[int]) -> float:
        expected = entries.residual(labels) @ entries.scores
        return _prior(labels) - float(torch.special.log_ndtr(signs * expected / deviation).sum())

    return misfit


def _prior(labels: Sequence[int]) -> float:
    """Minus the logarithm of the number of orders that labels can come in, but a constant."""
    return sum(math.lgamma(count + 1) for count in Counter(labels).values())


def _entries(case: Case) -> _Entries:
    generator = generator_for("label probes", *case.purpose)
    coarse = torch.rand(PROBES, case.spec.shape[0], 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, case.spec.shape[1:], mode="bilinear", align_corners=False)
    names = _nearest(case)
    model = deepcopy(case.model)  # a model may store its inputs
    parameters = dict(trained_parameters(model))
    scores = model(images.to(case.shared[names[0]].dtype))
    halves = [_gradients(half.mean(0), [parameters[name] for name in names]) for half in scores.chunk(2)]
    kept = kept_of(case.account, case.shared)
    spread, noise = [], []
    for name, first, second in zip(names, *halves, strict=True):
        of_one = float((first - second).square().mean()) / 2 * (PROBES / 2)
        left = kept[name].double()
        spread.append(torch.full_like(left, max(of_one / case.spec.count, LEAST)).flatten())
        variance = torch.full_like(left, variance_of(case.account, {name: left}))
        noise.append(variance.masked_fill(left == 0, math.inf).flatten())
    return _Entries(
        torch.cat([case.shared[name].double().flatten() for name in names]),
        (torch.cat(halves[0], 1) + torch.cat(halves[1], 1)) / 2,
        scores.detach().double().softmax(1).mean(0),
        torch.cat(spread),
        torch.cat(noise),
    )


def _nearest(case: Case) -> list[str]:
    """Names of the last tensors, as many as MOST allows, but at least one."""
    names: list[str] = []
    entries = 0
    for name, shared in reversed(case.shared.items()):
        entries += shared.numel()
        if names and entries * case.spec.classes > MOST:
            break
        names.append(name)
    return names


def _gradients(scores: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """For each of some tensors the gradient (K, n) of the scores (K,), in float64."""
    rows = [
        torch.autograd.grad(score, parameters, retain_graph=True, materialize_grads=True) for score in scores
    ]
    return [torch.stack([row.double().flatten() for row in column]) for column in zip(*rows, strict=True)]
