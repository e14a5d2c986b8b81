"""Two parties that hold shares, a dealer, and the owners of image and network: all in one process.

Semi-honest: the parties follow the protocol and do not pool what they see. Of what crosses between them
the bytes are counted; what one of them receives can be recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from operator import add, sub, xor
from typing import NamedTuple

import torch
from torch import Tensor

from leakbench.bench.sharing import Ring

RING = Ring(64)
PARTIES = 2


class Way(NamedTuple):
    """How shares add up to a secret."""

    join: Callable[[Tensor, Tensor], Tensor]
    part: Callable[[Tensor, Tensor], Tensor]


SUM = Way(add, sub)  # mod 2^64
BITS = Way(xor, xor)  # bit by bit


class Sender(Enum):
    """Who sends something to a party."""

    OWNER = "owner"  # of the image or of the network
    DEALER = "dealer"
    PARTY = "party"  # the other one


class Received(NamedTuple):
    """Something that the recorded party received."""

    sender: Sender
    what: str
    words: Tensor  # int64
    bits: int  # that count of each


@dataclass
class Parties:
    """What crosses between them.

    Args:
        generator: of every mask. One of PyTorch's can be repeated, and is no secret: for simulations.
        recorded: which party's view is kept; None for no one's.
    """

    generator: torch.Generator
    recorded: int | None = None
    view: list[Received] = field(default_factory=list)
    sent: dict[Sender, int] = field(default_factory=lambda: dict.fromkeys(Sender, 0))  # bytes
    rounds: int = 0  # in which the parties exchange something

    def give(self, values: Tensor, sender: Sender, what: str, way: Way = SUM, bits: int = 64) -> Tensor:
        """Shares (2, *shape) of values that one sender knows, of which each party receives its own."""
        mask = self.uniform(values.shape, bits)
        shares = torch.stack([mask, way.part(values, mask)])
        self._count(shares, sender, bits)
        if self.recorded is not None:
            self.view.append(Received(sender, what, shares[self.recorded], bits))
        return shares

    def open(self, *shares: Tensor, way: Way = SUM, what: str = "", bits: int = 64) -> list[Tensor]:
        """Each party sends its shares (2, *shape) to the other; what both then know."""
        self.rounds += 1
        for each in shares:
            self._count(each, Sender.PARTY, bits)
            if self.recorded is not None:
                self.view.append(Received(Sender.PARTY, what, each[1 - self.recorded], bits))
        return [way.join(each[0], each[1]) for each in shares]

    def deliver(self, shares: Tensor) -> Tensor:
        """Each party sends its shares (2, *shape) to the owner of the images, who alone learns their sum."""
        self._count(shares, Sender.PARTY, RING.bits)
        return RING.sum(shares)

    def uniform(self, shape: torch.Size, bits: int = 64) -> Tensor:
        """Words of which that many bits are uniform, and the others 0."""
        words = RING.uniform(shape, self.generator)
        return words if bits == RING.bits else words & ((1 << bits) - 1)

    def _count(self, shares: Tensor, sender: Sender, bits: int) -> None:
        self.sent[sender] += (shares.numel() * bits + 7) // 8
