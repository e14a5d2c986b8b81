"""Whether a defense's account of itself is true: see `Defense.account`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.attacks import NotApplicableError
from leakbench.core.randomness import generator_for
from leakbench.defenses import Account, Client, Defense, Gradients

SLACK = 1e-5  # relative to an entry: float32 rounds, too
KURTOSIS = 6.0  # of Laplacian noise, which has the heaviest tails: limits how well a variance can be measured
SIGNIFICANT = 6.0  # standard deviations of such a measurement
FACTOR = 30.0  # by which the estimated mean square of rounding errors may be off


@dataclass(frozen=True)
class Entries:
    """The entries of a tensor that a defense says it kept, before and after it; in float64."""

    what: str
    before: Tensor  # (n,)
    error: Tensor  # (n,): what was shared, minus `before`
    bound: Tensor  # (n,): how much of the error rounding explains
    variance: float  # of the noise in the error
    square: float | None  # the mean square of rounding errors, where the account estimates it


def account_problem(
    defense: Defense, gradients: Callable[[], Iterator[tuple[str, Gradients, Client | None]]]
) -> str | None:
    """What is false in a defense's account, tried on gradients, each with a name for people and its client.

    Raises:
        ContractError: it is no account at all.
        NotApplicableError: the defense gives none.
    """
    kept: list[Entries] = []
    for number, (what, gradient, client) in enumerate(gradients()):
        shared = defense.share(gradient, generator_for("check", number), client=client).gradients
        account = defense.checked_account(shared)
        if account is None:
            raise NotApplicableError("none is given, so attacks that know defenses learn nothing about it")
        factor = _factor(gradient, shared) if account.scaled else 1.0
        for name, before in gradient.items():
            mask = torch.ones_like(before, dtype=torch.bool) if account.kept is None else account.kept[name]
            where = f"{name!r} of {what}"
            if bool(shared[name][~mask].any()):
                return f"expected zeros in {where} where its account says that nothing was kept, got others"
            bound, variance = _bound(account, name, mask), account.variance_in(name)
            square = None if account.mean_squares is None else account.mean_squares[name]
            kept.append(_entries(where, factor * before[mask], shared[name][mask], bound, variance, square))
    noisy = [each for each in kept if each.variance]
    problem = (_false_noise(noisy) if noisy else None) or _false_squares(kept)
    return problem or next(_false_rounding([each for each in kept if not each.variance]), None)


def _factor(gradient: Gradients, shared: Gradients) -> float:
    """By which the gradient is closest to what was shared."""
    before, after = (
        torch.cat([each.double().flatten() for each in own.values()]) for own in (gradient, shared)
    )
    return float(before @ after / (before @ before).clamp(min=1e-300))


def _bound(account: Account, name: str, mask: Tensor) -> Tensor | None:
    return None if account.rounding is None else account.rounding[name][mask]


def _entries(
    what: str, before: Tensor, shared: Tensor, bound: Tensor | None, variance: float, square: float | None
) -> Entries:
    before, shared = before.double(), shared.double()
    slack = SLACK * before.abs()
    bounds = slack if bound is None else slack + bound.double()
    return Entries(what, before, shared - before, bounds, variance, square)


def _false_rounding(kept: list[Entries]) -> Iterator[str]:
    for each in kept:
        if bool((each.error.abs() > each.bound).any()):
            text = f"expected entries of {each.what} to be off by at most what its account says"
            yield f"{text}, {float(each.bound.max()):.2g}, got {float(each.error.abs().max()):.2g}"


def _false_squares(kept: list[Entries]) -> str | None:
    """Whether estimates are far off, over all tensors, each relative to its own."""
    own = [each for each in kept if each.square]
    entries = sum(len(each.error) for each in own)
    ratio = sum(float(each.error.square().sum()) / each.square for each in own if each.square)
    if not own or entries / FACTOR <= ratio <= entries * FACTOR:
        return None
    text = "expected rounding errors of about the mean squares that its account says"
    return f"{text}, got {ratio / entries:.2g} times as much"


def _false_noise(kept: list[Entries]) -> str | None:
    """Compares squared errors with their variance, tensor by tensor, since each may have its own."""
    expected = [each.variance + float(each.bound.square().mean()) / 3 for each in kept]  # uniform rounding
    shares = torch.cat([each.error.square() / own for each, own in zip(kept, expected, strict=True)])
    measured = float(shares.mean())
    chance = SIGNIFICANT * ((KURTOSIS - 1) / len(shares)) ** 0.5
    if abs(measured - 1) <= chance:
        return None
    mean = sum(len(each.error) * own for each, own in zip(kept, expected, strict=True)) / len(shares)
    text = "expected errors of the variance that its account says"
    return f"{text}, {mean:.3g}, got {measured * mean:.3g}"
