"""Products and quotients of shares: Beaver's triples, and truncation by each party alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from leakbench.bench.private.parties import BITS, RING, SUM, Parties, Sender, Way
from leakbench.bench.private.steps import Step


class Masked(NamedTuple):
    """A shared value that was opened under a mask which only the dealer knows."""

    opened: Tensor  # value - mask, known to both parties
    mask: Tensor  # known to the dealer
    parts: Tensor  # (2, *shape): the parties' shares of the mask


def masked(parties: Parties, *values: Tensor, way: Way = SUM, what: str = "") -> list[Masked]:
    """Values (2, *shape), each opened under a fresh mask of the dealer's, in one round."""
    masks = [parties.uniform(each.shape[1:]) for each in values]
    parts = [parties.give(mask, Sender.DEALER, f"mask of {what}", way) for mask in masks]
    hidden = (way.part(each, part) for each, part in zip(values, parts, strict=True))
    opened = parties.open(*hidden, way=way, what=f"masked {what}")
    return [Masked(*each) for each in zip(opened, masks, parts, strict=True)]


def product(
    parties: Parties, x: Masked, y: Masked, times: Callable[[Tensor, Tensor], Tensor], way: Way = SUM
) -> Tensor:
    """Shares of times(x, y), for any function that is linear in both (Beaver 1991).

    With x = d + a and y = e + b it is times(d, e) + times(d, b) + times(a, e) + times(a, b): the first is
    known to both parties, each has its share of the next two, and the dealer shares the last.
    One of the factors may be masked once for many products, as long as the other is masked afresh.
    """
    last = parties.give(times(x.mask, y.mask), Sender.DEALER, "product of masks", way)
    own = [
        way.join(way.join(times(x.opened, y.parts[party]), times(x.parts[party], y.opened)), last[party])
        for party in range(len(last))
    ]
    own[0] = way.join(own[0], times(x.opened, y.opened))
    return torch.stack(own)


def multiply(parties: Parties, x: Tensor, y: Tensor) -> Tensor:
    """Shares of x * y, element by element."""
    first, second = masked(parties, x, y, what="factor")
    return product(parties, first, second, torch.mul)


def conjunction(parties: Parties, x: Tensor, y: Tensor) -> Tensor:
    """Bitwise shares of x & y. Where they are broadcast, the smaller one is opened only once."""
    first, second = masked(parties, x, y, way=BITS, what="bits")
    return product(parties, first, second, torch.bitwise_and, BITS)


@dataclass
class Truncations:
    """What truncations did, as only the simulation can know."""

    count: int = 0
    off_by_one: int = 0  # in the last place
    wrong: int = 0  # by 2^64 / divisor: the shares have wrapped around
    expected_wrong: float = 0.0


def truncate(shares: Tensor, divisor: int, seen: Truncations) -> Tensor:
    """Shares of a quotient: each party divides its own share (Mohassel and Zhang 2017, theorem 1).

    The result is off by one in the last place at most, unless the shares wrap around, as they do with the
    probability |value| / 2^64: then it is off by 2^64 / divisor.
    """
    values = RING.sum(shares)
    quotients = torch.div(shares, divisor, rounding_mode="trunc")
    off = RING.sum(quotients) - torch.div(values, divisor, rounding_mode="trunc")
    seen.count += values.numel()
    seen.off_by_one += int((off.abs() == 1).sum())
    seen.wrong += int((off.abs() > 1).sum())
    seen.expected_wrong += float(values.double().abs().sum()) / 2.0**64
    return quotients


def windows(values: Tensor, step: Step) -> Tensor:
    """What each window of a step sees: (B, C, H, W) to (B, C, rows, columns, height, width)."""
    (height, width), (down, right), (top, left) = step.window, step.stride, step.padding
    padded = functional.pad(values, (left, left, top, top))
    return padded.unfold(2, height, down).unfold(3, width, right)


def convolve(values: Tensor, weight: Tensor, step: Step) -> Tensor:
    """A convolution of whole numbers, as a product of matrices: PyTorch's own has none on the CPU."""
    seen = windows(values, step).permute(0, 2, 3, 1, 4, 5).flatten(3)
    return (seen @ weight.flatten(1).T.contiguous()).permute(0, 3, 1, 2)
