"""What an attack is given, and what it gives back. The image it is after is not among it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import torch
from torch import Tensor, nn

from bench.randomness import generator_for
from defenses import ContractError, Gradients
from defenses.base import unlike
from defenses.configured import Configured

Observer = Callable[[list[int], list[int], Tensor], None]


class Status(StrEnum):
    """How a trial ended."""

    CONVERGED = "converged"  # reached its goal, or a point that it cannot improve on
    BUDGET = "budget"  # stopped at its limit of steps
    DIVERGED = "diverged"  # the dummy image left every range that a picture can have
    ERROR = "error"  # failed; the reason says how

    @property
    def has_result(self) -> bool:
        """Whether there is a reconstruction with scores: the one thing that tells."""
        return self is not Status.ERROR


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

    images: Tensor  # (N, C, H, W), not clipped; of an iteration its best iterate
    label_logits: Tensor  # (N, K), of the same iterate
    objective: float | None  # of the same iterate, as the attack has it; None where it minimises nothing
    history: list[float]  # the objective at the start and after each outer step; may be empty
    status: Status
    reason: str
    seconds: float  # the trial's share of the time that the attack took

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return max(len(self.history) - 1, 0)


@dataclass(frozen=True)
class Attack(Configured, ABC):
    """A way to images from the gradients that were shared for them.

    An author writes `reconstruct`; this class checks what comes out of it.
    """

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

    def run(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Reconstruction | ContractError]]:
        """`reconstruct`, with its contract checked: what became of each case that it took, once.

        A ContractError stands in place of a reconstruction that cannot be used, or that never came.

        Raises:
            ContractError: a reconstruction of a case that it did not take, or a second one of the same;
                something observed that is none of the cases' dummy images.
        """
        unanswered: dict[int, Case] = {}

        def taken() -> Iterator[Case]:
            for case in cases:
                unanswered[case.number] = case
                yield case

        def checked_observe(numbers: list[int], steps: list[int], images: Tensor) -> None:
            problem = next(_badly_observed(unanswered, numbers, steps, images), None)
            if problem:
                raise ContractError(f"attack {self}: observe: {problem}")
            observe(numbers, steps, images)

        for number, found in self.reconstruct(taken(), checked_observe, resources):
            if number not in unanswered:
                text = f"expected the number of a case that it took and did not answer yet, got {number!r}"
                raise ContractError(f"attack {self}: {text}")
            problem = next(_broken_promises(unanswered.pop(number), found), None)
            yield number, ContractError(f"attack {self}: {problem}") if problem else found
        for number in unanswered:
            yield number, ContractError(f"attack {self}: expected a reconstruction of every case, got none")


def _badly_observed(
    cases: dict[int, Case], numbers: list[int], steps: list[int], images: Tensor
) -> Iterator[str]:
    strange = [number for number in numbers if number not in cases]
    if strange:
        yield f"expected numbers of cases that it took and did not answer yet, got {strange[0]!r}"
    elif numbers:
        shape = (len(numbers), *cases[numbers[0]].start.images.shape)
        if not isinstance(images, Tensor) or images.shape != shape or len(steps) != len(numbers):
            found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            expected = f"expected {len(numbers)} steps and dummy images of shape {shape}"
            yield f"{expected}, got {len(steps)} and {found}"


def _broken_promises(case: Case, found: object) -> Iterator[str]:
    """What is wrong with a reconstruction, if something is."""
    if not isinstance(found, Reconstruction):
        yield f"expected a Reconstruction, got {type(found).__name__}"
        return
    start = case.start
    for name, wanted, given in (
        ("images", start.images, found.images),
        ("label_logits", start.label_logits, found.label_logits),
    ):
        yield from (f"{name}: {problem}" for problem in unlike(wanted, given))
    if not isinstance(found.status, Status) or not found.status.has_result:
        known = ", ".join(f"Status.{each.name}" for each in Status if each.has_result)
        yield f"status: expected one of {known}, got {found.status!r}"
    if not isinstance(found.reason, str):
        yield f"reason: expected text, got {found.reason!r}"
    if found.objective is not None and (not _is_number(found.objective) or math.isnan(found.objective)):
        yield f"objective: expected a number or None, got {found.objective!r}"
    if not isinstance(found.history, list) or not all(map(_is_number, found.history)):
        yield "history: expected a list of numbers"
    if not _is_number(found.seconds) or not 0 <= found.seconds < math.inf:
        yield f"seconds: expected a number >= 0, got {found.seconds!r}"


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
