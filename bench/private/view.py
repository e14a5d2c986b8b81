"""What one party of the reference engine sees, and what an attack on it finds out about the images.

Everything that a party receives should be uniform and independent of the images: its shares, what the
dealer sends, and what the other party opens. Two things are tried: the bits of all words, and the image
itself, on the words that belong to it. Both say what they would have found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from scipy.stats import binom, norm
from torch import Tensor

from leakbench.bench.private.network import SharedNetwork
from leakbench.bench.private.parties import Parties, Received
from leakbench.bench.private.steps import Step
from leakbench.bench.sharing import FixedPoint
from leakbench.bench.sharing.uniformity import BitTest, bit_test

FALSE_ALARM = 1e-6
POWER = 0.99
RIDGE = 1.0  # of the mean square of a row: what guesses best from the images themselves


class Correlation(NamedTuple):
    """Of the words that a party receives for an image, with its pixels."""

    value: float  # the largest of those of the messages
    found_from: float  # what would exceed the threshold, with the probability POWER
    threshold: float


class Guesses(NamedTuple):
    """Of the labels, by a regression on what a party receives."""

    right: float  # share of the images that it was not fitted on
    chance: float  # of the most frequent label among them
    threshold: float  # that guessing exceeds with the probability 0.001
    images: int


@dataclass(frozen=True)
class ViewTest:
    """What was found in the view of a party."""

    party: int
    words: BitTest  # of those that are mod 2^64
    bits: BitTest | None  # of single bits; None where there are none
    correlation: Correlation
    guesses: Guesses

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        is_fair = self.words.is_fair and (self.bits is None or self.bits.is_fair)
        is_blind = self.correlation.value <= self.correlation.threshold
        return is_fair and is_blind and self.guesses.right <= self.guesses.threshold


def received(
    steps: Sequence[Step], images: Tensor, encoding: FixedPoint, generator: torch.Generator, party: int
) -> list[Received]:
    """All that a party receives while images (N, C, H, W) are classified."""
    parties = Parties(generator, recorded=party)
    SharedNetwork(parties, steps, encoding)(images)
    return parties.view


def view_test(
    steps: Sequence[Step],
    images: Tensor,
    labels: Tensor,
    encoding: FixedPoint,
    generator: torch.Generator,
    party: int,
    whole: int = 20,
) -> ViewTest:
    """Look at the view of a party.

    Args:
        steps: of the network.
        images: float32 (N, C, H, W), N >= 4.
        labels: (N,).
        encoding: of images and weights.
        generator: of all masks.
        party: 0 or 1.
        whole: of how many images all words are tested; of the others those up to the first product.
    """
    view = received(steps, images[:whole], encoding, generator, party)
    first = next(place for place, step in enumerate(steps) if step.weight is not None)
    early = received(steps[: first + 1], images, encoding, generator, party)
    own = [
        each.words.flatten(1)
        for each in early
        if each.words.numel() == images.numel() and "weight" not in each.what
    ]
    single = [each.words.flatten() for each in view if each.bits == 1]
    return ViewTest(
        party,
        bit_test(torch.cat([each.words.flatten() for each in view if each.bits == 64]), 64, FALSE_ALARM),
        bit_test(torch.cat(single), 1, FALSE_ALARM) if single else None,
        correlation(own, encoding.encode(images).flatten(1)),
        guesses(torch.cat(own, 1), labels),
    )


def correlation(messages: Sequence[Tensor], pixels: Tensor) -> Correlation:
    """The largest |r| of a message's words (N, pixels) with the pixels (N, pixels) of the images.

    Means over the images are taken off, so that what images have in common counts for nothing.
    """
    truth = pixels.double() - pixels.double().mean(0)
    values = []
    for message in messages:
        words = message.double() - message.double().mean(0)
        values.append(float((words * truth).sum() / (words.norm() * truth.norm()).clamp(min=1e-300)))
    spread = 1 / sqrt(pixels.numel() - pixels.shape[1])
    threshold = spread * float(norm.isf(FALSE_ALARM / 2 / len(messages)))
    return Correlation(max(map(abs, values)), threshold + spread * float(norm.ppf(POWER)), threshold)


def guesses(words: Tensor, labels: Tensor) -> Guesses:
    """How often a ridge regression on half of the images' words (N, F) guesses the others' labels."""
    scaled = words.double() / words.double().abs().max()
    half = len(scaled) // 2
    fitted, others = scaled[:half] - scaled[:half].mean(0), scaled[half:] - scaled[:half].mean(0)
    targets = torch.nn.functional.one_hot(labels).double()[:half]
    kernel = fitted @ fitted.T
    kernel.diagonal().add_(RIDGE * kernel.diagonal().mean())
    scores = others @ fitted.T @ torch.linalg.solve(kernel, targets - targets.mean(0))
    truth = labels[half:]
    chance = float(torch.bincount(truth).max()) / len(truth)
    threshold = float(binom.isf(1e-3, len(truth), chance)) / len(truth)
    right = float(((scores + targets.mean(0)).argmax(1) == truth).double().mean())
    return Guesses(right, chance, threshold, len(truth))
