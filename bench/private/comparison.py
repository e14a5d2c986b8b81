"""ReLU on shares without opening anything: the sign bit of a sum, by an adder over shared bits.

The arithmetic-to-Boolean conversion of ABY (Demmler, Schneider and Zohner 2015) with the parallel prefix
adder of Kogge and Stone 1973, as CrypTen has it (Knott et al. 2021). Each AND takes a triple of the dealer.
"""

import torch
from torch import Tensor

from leakbench.bench.private.arithmetic import conjunction, multiply
from leakbench.bench.private.parties import BITS, Parties, Sender

SIGN = 63  # the bit of a negative number


def negative(parties: Parties, shares: Tensor) -> Tensor:
    """XOR shares (2, *shape), 0 or 1, of whether each value is negative.

    Args:
        parties: that hold the shares.
        shares: additive, mod 2^64, (2, *shape).
    """
    nothing = torch.zeros_like(shares[0])
    # what a party holds of the sum is shared already: its own number, and 0 of the other's
    first, second = torch.stack([shares[0], nothing]), torch.stack([nothing, shares[1]])
    generate = conjunction(parties, first, second)  # a carry starts here
    differ = propagate = first ^ second  # one that arrives goes on
    for distance in (1, 2, 4, 8, 16):
        lower = torch.stack([generate << distance, propagate << distance], dim=1)
        through, propagate = conjunction(parties, propagate[:, None], lower).unbind(1)
        generate = generate ^ through
    generate = generate ^ conjunction(parties, propagate, generate << 32)
    return ((differ >> SIGN) ^ (generate >> (SIGN - 1))) & 1


def as_sum(parties: Parties, bits: Tensor) -> Tensor:
    """Additive shares of bits that are shared by XOR: each opened under a random bit of the dealer's."""
    mask = parties.uniform(bits.shape[1:], bits=1)
    by_xor = parties.give(mask, Sender.DEALER, "mask of a sign", BITS, bits=1)
    by_sum = parties.give(mask, Sender.DEALER, "mask of a sign, as a sum")
    (opened,) = parties.open(bits ^ by_xor, way=BITS, what="masked sign", bits=1)
    own = by_sum * (1 - 2 * opened)  # z xor r = z + r - 2 z r
    own[0] += opened
    return own


def relu(parties: Parties, shares: Tensor) -> Tensor:
    """Additive shares of max(value, 0): the value times 1 where it is not negative, else times 0."""
    keep = -as_sum(parties, negative(parties, shares))
    keep[0] += 1
    return multiply(parties, shares, keep)
