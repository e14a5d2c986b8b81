"""Policies of transformations of images, and what undoes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

Policy = tuple[tuple[str, float], ...]  # transformations and their magnitudes, one after the other
GRAY = torch.tensor([0.299, 0.587, 0.114])  # of red, green and blue
ERROR = 0.01  # of a pixel that an attack found


def with_signs(policy: Policy, generator: torch.Generator) -> Policy:
    """The policy with a sign for each magnitude."""
    signs = (2 * torch.randint(2, (len(policy),), generator=generator) - 1).tolist()
    return tuple((what, sign * by) for (what, by), sign in zip(policy, signs, strict=True))


def transformed(image: Tensor, policy: Policy) -> Tensor:
    """An image (C, H, W) in [0, 1] after all transformations of a policy: signed shares, see `shifted`."""
    for what, way in policy:
        image = contrasted(image, 1 + way) if what == "contrast" else shifted(image, way, what)
    return image


def restored(image: Tensor, policies: Sequence[Policy]) -> Tensor:
    """An image (C, H, W) before one of several policies with unknown signs; what was lost is black.

    It is the one that the same policy turns into the given image again. Of several that do, by a mean square
    of ERROR^2 more than the closest at most, the policy that shifts furthest: borders as wide as it leaves
    are seldom black by chance.
    """
    image = image.clamp(0, 1)
    found = [_Undone.of(image, own) for policy in policies for own in _signed(policy)]
    least = min(each.error for each in found)
    close = [each for each in found if each.error <= least + ERROR**2]
    return min(close, key=lambda each: (-each.distance, each.error)).before


def _signed(policy: Policy) -> Iterator[Policy]:
    """The policy with each choice of signs."""
    for signs in product((1, -1), repeat=len(policy)):
        yield tuple((what, sign * by) for (what, by), sign in zip(policy, signs, strict=True))


@dataclass(frozen=True)
class _Undone:
    """An image before a policy with known signs."""

    before: Tensor
    error: float  # the mean square by which the policy then misses the given image
    distance: float  # of all its shifts

    @classmethod
    def of(cls, image: Tensor, policy: Policy) -> "_Undone":
        before = image
        for what, way in reversed(policy):
            before = contrasted(before, 1 / (1 + way)) if what == "contrast" else shifted(before, -way, what)
        error = float((transformed(before, policy) - image).square().mean())
        return cls(before, error, sum(abs(way) for what, way in policy if what != "contrast"))


def contrasted(image: Tensor, by: float) -> Tensor:
    """The image (C, H, W) with distances from its mean gray multiplied, in [0, 1]."""
    gray = (image * GRAY.to(image.dtype).view(-1, 1, 1)).sum(0) if len(image) == 3 else image.mean(0)
    return (gray.mean() + by * (image - gray.mean())).clamp(0, 1)


def shifted(image: Tensor, share: float, axis: str) -> Tensor:
    """The image moved along x or y by that share of its side, to higher places if positive; 0 behind it."""
    dim = 1 if axis == "y" else 2
    side = image.shape[dim]
    by = round(share * side)
    sources = torch.arange(side) - by
    inside = ((sources >= 0) & (sources < side)).to(image.dtype)
    return image.index_select(dim, sources.clamp(0, side - 1)) * inside.view(-1, *[1] * (2 - dim))
