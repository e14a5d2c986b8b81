"""What an engine of shared inference answers, and what that cost."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

from torch import Tensor

from leakbench.bench.private.arithmetic import Truncations

Observer = Callable[[int], None]  # told how many images are classified


@dataclass(frozen=True)
class Answers:
    """The scores of all images, and costs; NaN where an engine does not tell."""

    scores: Tensor  # (N, classes), float64
    seconds: float  # of the processor, of all parties and images
    party_bytes: float = nan  # that the parties send each other, of all images
    dealer_bytes: float = nan  # that the dealer sends, of all images
    setup_bytes: float = nan  # of all, before the first image
    rounds: float = nan  # of a batch
    truncations: Truncations | None = None
