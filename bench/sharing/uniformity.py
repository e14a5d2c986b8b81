"""Whether words look uniform: a test of their bits, and what bias it would find."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

CHUNK = 1 << 16  # words whose bits are unpacked at once


@dataclass(frozen=True)
class BitTest:
    """How far sums of signs are from 0, in standard deviations of fair bits."""

    words: int
    tests: int  # how many sums there are
    largest: float  # |z| of the one that is farthest off
    threshold: float  # that fair bits exceed somewhere with the probability `false_alarm`

    @property
    def is_fair(self) -> bool:
        """Whether nothing was found."""
        return self.largest <= self.threshold

    def bias(self, power: float = 0.99) -> float:
        """The |P(1) - 1/2| of a single bit that would be found with the probability `power`."""
        return float((self.threshold + norm.ppf(power)) / (2 * sqrt(self.words)))


def bit_test(words: Tensor, bits: int = 64, false_alarm: float = 1e-6) -> BitTest:
    """Test every bit, every pair of bits of a word, and every bit with the one of the word before.

    It finds bits that are biased, that agree (or disagree) too often with another one, or that are repeated.
    No test finds every dependence.

    Args:
        words: int64, of any shape, two or more.
        bits: how many of each count, from the lowest on.
        false_alarm: the probability that fair words fail (Bonferroni over all sums).
    """
    flat = words.reshape(-1)
    single, repeated = (torch.zeros(bits, dtype=torch.float64) for _ in range(2))
    pairs = torch.zeros(bits, bits, dtype=torch.float64)
    for signs in _signs(flat, bits):
        single += signs.sum(0, dtype=torch.float64)
        pairs += signs.T @ signs  # up to CHUNK, exact in float32
    for signs in _signs(flat[1:] ^ flat[:-1], bits):
        repeated += signs.sum(0, dtype=torch.float64)
    count = len(flat)
    above = pairs[tuple(torch.triu_indices(bits, bits, 1))]
    scores = torch.cat([torch.cat([single, above]) / sqrt(count), repeated / sqrt(count - 1)])
    threshold = float(norm.isf(false_alarm / 2 / len(scores)))
    return BitTest(count, len(scores), float(scores.abs().max()), threshold)


def _signs(words: Tensor, bits: int) -> Iterator[Tensor]:
    """The lowest bits of words (N,) as float32 (chunk, bits): 1 for a one and -1 for a zero."""
    for part in words.split(CHUNK):
        raw = np.ascontiguousarray(part.numpy(), dtype="<i8").view(np.uint8).reshape(-1, 8)
        ones = np.unpackbits(raw, axis=1, bitorder="little")[:, :bits]
        yield torch.from_numpy(ones.astype(np.float32)) * 2 - 1
