"""What an attack is given, and what it gives back. The image it is after is not among it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from bench.randomness import generator_for
from defenses import Gradients
from defenses.configured import Configured

Observer = Callable[[int, Tensor], None]


class Status(StrEnum):
    """How a trial ended; the sentence is what `leakbench list` says of it."""

    CONVERGED = "converged", "the attack reached its goal, or a point that it cannot improve on"
    BUDGET = "budget", "the attack was stopped at its limit of steps"
    DIVERGED = "diverged", "the dummy image left every range that a picture can have"
    ERROR = "error", "the trial failed; its reason says how"
    SKIPPED = "skipped", "the trial was not run; its reason says why"

    sentence: str

    def __new__(cls, value: str, sentence: str) -> "Status":
        """A member that is its short name, and carries its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


@dataclass(frozen=True)
class Start:
    """Where the attack begins: a dummy image (C, H, W) and the logits of its label (K,)."""

    image: Tensor
    label_logits: Tensor

    @classmethod
    def draw(cls, shape: tuple[int, int, int], classes: int, *purpose: str | int) -> "Start":
        """Standard normal pixels and logits, as the DLG authors start; equal purpose, equal start."""
        return cls(
            torch.randn(shape, generator=generator_for("start image", *purpose)),
            torch.randn(classes, generator=generator_for("start label", *purpose)),
        )


@dataclass(frozen=True)
class Reconstruction:
    """What an attack made of one shared gradient."""

    image: Tensor  # (C, H, W), the iterate of lowest match loss, not clipped
    label_logits: Tensor  # (K,), of the same iterate
    match_loss: float  # of the same iterate
    history: list[float]  # match loss at the start and after each outer step
    status: Status
    reason: str

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return len(self.history) - 1


@dataclass(frozen=True)
class Attack(Configured, ABC):
    """A way to an image from the gradient that was shared for it."""

    @abstractmethod
    def reconstruct(
        self, model: nn.Module, shared: Gradients, start: Start, observe: Observer
    ) -> Reconstruction:
        """The image that best explains `shared`, from all that an honest-but-curious server has.

        Args:
            model: with the victim's weights.
            shared: {parameter name: tensor}, as the victim shared it, on the model's device.
            start: where to begin, on the model's device.
            observe: told (outer step, dummy image) at the start and after every outer step; it
                returns nothing, so what it knows stays on its side.
        """
