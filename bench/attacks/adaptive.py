"""An attack that knows the defense: which entries were kept, and how much noise to expect."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case, Knows, NotApplicableError
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.attacks.optimised import Candidate, Terms
from leakbench.bench.attacks.regularised import Regularised, certain
from leakbench.bench.gradients import soft_cross_entropy
from leakbench.bench.modalities import Spec
from leakbench.bench.posterior import PRIOR, TRUST, kept_of, square_of, variance_of, weights_of
from leakbench.defenses import Gradients

FREE, SIGNED = "free scale", "signed"  # terms that are there where the update is no single gradient
TINY = 1e-20
UNIT = 1000.0  # the objective for a dummy gradient of zero
MOST = 1e9  # the largest weight of total variation
CLEAR = 10_000  # the residual counts as known if its square is this many times its noise (docs/LOG.md)


@dataclass(frozen=True)
class Adaptive(Regularised):
    """Squared distance over the kept entries, plus total variation with a floor set by the noise.

    The objective is relative to the squared norm of the shared gradient. For a single image, the residual
    p - y, which is the gradient of the last layer's bias, is taken as known if the defense does not hide it;
    if it was scaled, so was the rest of the gradient. Else a scaled gradient is matched at its best scale.
    """

    name: ClassVar[str] = "adaptive"
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.DEFENSE})
    falling: ClassVar[tuple[float, ...]] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # weights of total variation

    def weights(self, case: Case) -> Sequence[float]:
        """See `Regularised.weights`."""
        least = least_weight(case)
        return [max(weight, least) for weight in self.falling]

    def terms(self, case: Case) -> Terms:
        """See `Regularised.terms`."""
        own = weights_of(case.account, case.shared)
        scale = (UNIT / square_of(case.shared, own)) ** 0.5
        weights = {f"weight {name}": scale * each for name, each in own.items()}
        return {**weights, **self.matching(case)}

    def matching(self, case: Case) -> Terms:
        """Up to what a dummy's gradient is to match the shared update, marked by a term."""
        if case.spec.signed:
            return {SIGNED: torch.tensor(1.0)}
        return {FREE: torch.tensor(float(is_scaled(case) or case.spec.steps > 1))}

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`: with the residual instead of the label, if it is known."""
        found = super().candidates(case)
        residual = _residual(case)
        none = {"residual": torch.zeros(case.spec.logit_shape), "is known": torch.tensor(0.0)}
        labelled = [replace(each, terms={**each.terms, **none}) for each in found]
        if residual is None:
            return labelled
        known = {"residual": residual, "is known": torch.tensor(1.0), FREE: torch.tensor(0.0)}
        label = residual.argmin(1)  # p - y is negative only at the label
        labels = certain(label, case.spec.classes).to(residual.dtype)
        return [replace(found[0], labels=labels, terms={**found[0].terms, **known})]

    def training_loss(self, scores: Tensor, labels: Tensor, terms: Terms) -> Tensor:
        """See `Optimised.training_loss`; if the residual is known, the loss with that slope in the scores."""
        known = terms["is known"]
        return (1 - known) * soft_cross_entropy(scores, labels) + known * (terms["residual"] * scores).sum()

    def distance(self, dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
        """See `Optimised.distance`; of an update of unknown scale at the best one, of signs by them."""
        if SIGNED in terms:
            return _sign_distance(dummy, shared, terms)
        squared = [
            (terms[f"weight {name}"] * (each - shared[name])).square().sum() for name, each in dummy.items()
        ]
        distance = torch.stack(squared).sum()
        if FREE in terms:  # cases of either kind may share a batch
            return torch.where(terms[FREE] > 0, _distance_at_best_scale(dummy, shared, terms), distance)
        return distance


def is_scaled(case: Case) -> bool:
    """Whether the defense multiplied the gradient by a number that cannot be told from outside."""
    return case.account is not None and case.account.scaled


def _distance_at_best_scale(dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
    """The least squared distance of a multiple of the dummy, >= 0, from the shared update."""
    weighted = [
        (terms[f"weight {name}"] * d, terms[f"weight {name}"] * shared[name]) for name, d in dummy.items()
    ]
    inner, own, other = (
        torch.stack([(a * b).sum() for a, b in pairs]).sum()
        for pairs in (weighted, [(d, d) for d, _ in weighted], [(s, s) for _, s in weighted])
    )
    return other - inner.relu().square() / (own + TINY)


def _sign_distance(dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
    """The share of the dummy gradient's absolute sum that has the wrong sign."""
    weighted = {name: terms[f"weight {name}"] * each for name, each in dummy.items()}
    agreeing = torch.stack([(each * shared[name]).sum() for name, each in weighted.items()]).sum()
    total = torch.stack([each.abs().sum() for each in weighted.values()]).sum()
    return UNIT / 2 * (1 - agreeing / (total + TINY))


def least_weight(case: Case) -> float:
    """The weight of total variation that is optimal under the defense's noise, times TRUST."""
    square = square_of(case.shared, weights_of(case.account, case.shared))
    variance = variance_of(case.account, kept_of(case.account, case.shared))
    return smoothing(UNIT * variance / square, case.spec)


def smoothing(noise: float, spec: Spec) -> float:
    """The best weight of total variation, times TRUST; `noise` is what each entry adds to the objective."""
    return min(TRUST * 2 * noise * spec.pixels / PRIOR, MOST)  # a gradient of zero would give infinity


def _residual(case: Case) -> Tensor | None:
    """The residual p - y (1, K) of a single image; None if it is not known."""
    if not case.spec.single or case.account is None:
        return None
    try:
        bias = output_layer(case.model, case.spec).bias
    except NotApplicableError:
        return None
    if bias is None or not bool(kept_of(case.account, case.shared)[bias].all()):
        return None
    residual = case.shared[bias]
    noise = residual.numel() * variance_of(case.account, {bias: torch.ones_like(residual)})
    return residual[None] if float(residual.square().sum()) > CLEAR * noise else None
