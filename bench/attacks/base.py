"""What an attack is given, and what it gives back. The image it is after is not among it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import torch
from torch import Tensor, nn

from bench.randomness import generator_for
from defenses import Gradients
from defenses.configured import Configured

Observer = Callable[[list[int], list[int], Tensor], None]


class Status(StrEnum):
    """How a trial ended."""

    CONVERGED = "converged"  # reached its goal, or a point that it cannot improve on
    BUDGET = "budget"  # stopped at its limit of steps
    DIVERGED = "diverged"  # the dummy image left every range that a picture can have
    ERROR = "error"  # failed; the reason says how
    SKIPPED = "skipped"  # not run; the reason says why


@dataclass(frozen=True)
class Start:
    """Where the attack begins: dummy images (N, C, H, W) and the logits of their labels (N, K)."""

    images: Tensor
    label_logits: Tensor

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int, int],
        classes: int,
        *purpose: str | int,
        count: int = 1,
        uniform: bool = False,
    ) -> "Start":
        """N(0, 1) pixels, as the DLG authors start, or U(0, 1) ones, and N(0, 1) logits.

        Equal purpose, equal start.
        """
        pixels = generator_for("start image", *purpose)
        return cls(
            (torch.rand if uniform else torch.randn)((count, *shape), generator=pixels),
            torch.randn((count, classes), generator=generator_for("start label", *purpose)),
        )


@dataclass(frozen=True)
class Case:
    """All that an honest-but-curious server has of one trial."""

    number: int  # what the caller knows the trial by
    model: nn.Module  # with the victim's weights
    shared: Gradients  # {parameter name: tensor}, as the victim shared it, on the CPU
    start: Start  # on the CPU


@dataclass(frozen=True)
class Resources:
    """Where an attack computes, and how much at once."""

    device: str = "cpu"
    slots: int = 1  # cases attacked at once, at most
    compiled: bool = False  # whether to let torch.compile at the batch


@dataclass(frozen=True)
class Reconstruction:
    """What an attack made of one shared gradient. Tensors are on the CPU."""

    images: Tensor  # (N, C, H, W), the iterate of lowest match loss, not clipped
    label_logits: Tensor  # (N, K), of the same iterate
    match_loss: float  # of the same iterate
    history: list[float]  # match loss at the start and after each outer step
    status: Status
    reason: str
    seconds: float  # the trial's share of the time that the attack took

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return len(self.history) - 1


@dataclass(frozen=True)
class Attack(Configured, ABC):
    """A way to images from the gradients that were shared for them."""

    batch_size: int = 1  # images that one shared gradient is the mean of: the trial's, and those after it

    @property
    @abstractmethod
    def budget(self) -> int:
        """The most outer steps that an attack on one gradient takes."""

    @abstractmethod
    def with_budget(self, steps: int) -> Self:
        """The same attack with another limit of outer steps."""

    @abstractmethod
    def draw_start(self, shape: tuple[int, int, int], classes: int, *purpose: str | int) -> Start:
        """Where to begin; equal purpose, equal start."""

    @abstractmethod
    def reconstruct(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Reconstruction]]:
        """The images that best explain each shared gradient, in the order in which they are done.

        Args:
            cases: models of one architecture and gradients of `batch_size` images each; taken one by
                one, as there is room for them.
            observe: told (numbers, outer steps, dummy images (k, N, C, H, W)) at the start and after
                every outer step; it returns nothing, so what it knows stays on its side.
            resources: where to compute, and how much at once.

        Yields:
            (number of the case, its reconstruction).
        """
