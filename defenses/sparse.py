"""Defenses that send some entries of a gradient as they are, and the others not at all."""

from abc import ABC
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from leakbench.core.ranges import Range
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.traffic import sparse_bytes

Sent = Annotated[float, Range(0, 1, open=(0,))]  # a share of the entries


def rounded_down(share: float, entries: int) -> int:
    """How many of the entries a share is; 1e-9 because 0.29 * 100 is 28.999999999999996 in binary."""
    return int(share * entries + 1e-9)


def smallest_places(numbers: Tensor, count: int) -> Tensor:
    """The places (count,) of the smallest of several numbers (n,); among equal ones, the first.

    A tenth of the time of sorting millions.
    """
    if not count:
        return torch.empty(0, dtype=torch.long, device=numbers.device)
    last = numbers.kthvalue(count).values
    below = (numbers < last).nonzero()[:, 0]
    return torch.cat([below, (numbers == last).nonzero()[: count - len(below), 0]])


def as_vector(gradients: Gradients) -> Tensor:
    """All entries (n,), tensor by tensor."""
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def pieces_of(vector: Tensor, like: Gradients) -> Gradients:
    """The entries (n,) in the names and shapes of `like`, as new tensors."""
    pieces = vector.split([gradient.numel() for gradient in like.values()])
    return {
        name: piece.clone().view_as(gradient)
        for (name, gradient), piece in zip(like.items(), pieces, strict=True)
    }


@dataclass(frozen=True)
class Sparse(Defense, ABC):
    """Its `account` says which entries were sent; those of several rounds with error feedback are here."""

    def account_of_rounds(self, shared: Gradients, rounds: int) -> Account | None:
        """See `Defense.account_of_rounds`; with error feedback, what a mean may still lack.

        An entry that was sent for the last time in round t of R brought all that had been left out of it
        since the first. So the mean holds t / R of it, and is off by (R - t) / t <= R - 1 times its size.
        """
        account = self.account(shared)
        if account is None or not self.error_feedback or rounds == 1:
            return account
        return replace(account, rounding={name: (rounds - 1) * each.abs() for name, each in shared.items()})

    def sent_bytes(self, shared: Gradients) -> int:
        """The size of a sparse format; see `sparse_bytes`."""
        return sparse_bytes(shared)


@dataclass(frozen=True)
class SparseByShare(Sparse, ABC):
    """Of the n entries of the whole gradient about ratio * n are sent."""

    ratio: Sent

    @property
    def strength(self) -> float:
        """The share of entries that are not sent."""
        return 1 - self.ratio
