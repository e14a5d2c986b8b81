"""What attacks by optimisation have in common: dummies are moved until their gradient is the shared one.

The parts are separate: where it begins and what is free (`candidates`), what a variable stands for
(`pixels`), what is minimised (`training_loss`, `distance`, `penalty`), and how it is moved (`stepper`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from leakbench.bench.attacks import batched
from leakbench.bench.attacks.base import Attack, Case, Found, NotApplicableError, Observer, Resources, Status
from leakbench.bench.gradients import soft_cross_entropy
from leakbench.bench.steppers import Stepper
from leakbench.defenses import Gradients

Terms = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """A part of an attack, with an objective of its own."""

    steps: int  # outer steps, at most
    terms: Mapping[str, float] = field(default_factory=dict)  # values that the candidate's terms take


@dataclass(frozen=True)
class Candidate:
    """One way to begin on a case. Those of one attack and architecture have equal shapes."""

    images: Tensor  # (N, C, H, W): what `Optimised.pixels` makes the dummy images of
    labels: Tensor  # (N, K): logits that are optimised, too, or what `training_loss` takes for labels
    stages: Sequence[Stage]
    terms: Terms = field(default_factory=dict)  # what else of the objective is its own
    free_labels: bool = False  # whether the labels are optimised

    @property
    def variable(self) -> Tensor:
        """(size,): all that is optimised."""
        free = [self.images, self.labels] if self.free_labels else [self.images]
        return torch.cat([each.flatten() for each in free])

    def labels_at(self, variable: Tensor) -> Tensor:
        """Logits (N, K) where they are optimised, else classes (N,)."""
        if not self.free_labels:
            return self.labels.argmax(-1)
        return variable[self.images.numel() :].view(self.labels.shape)


@dataclass(frozen=True)
class Optimised(Attack, ABC):
    """An attack that minimises something, for many gradients at once, each in a slot of its own.

    All but `candidates` and `stepper` is written for one gradient, in operations that `torch.func`
    vectorises: no branch may depend on a value.
    """

    @abstractmethod
    def candidates(self, case: Case) -> Sequence[Candidate]:
        """Where the attack begins; of several the one of lowest objective after its first stage goes on.

        Raises:
            NotApplicableError: it cannot begin on such a case.
        """

    @abstractmethod
    def stepper(self, slots: int, size: int, device: torch.device, dtype: torch.dtype) -> Stepper:
        """What moves the variables (B, size) of so many slots."""

    def pixels(self, variable: Tensor) -> Tensor:
        """The dummy images that what is optimised stands for, of the same shape."""
        return variable

    def training_loss(self, scores: Tensor, labels: Tensor, terms: Terms) -> Tensor:
        """The loss whose gradient is the dummy's: cross entropy against labels that are softmax(labels).

        Args:
            scores: of the dummy images (N, K).
            labels: those of the candidate (N, K).
            terms: those of the candidate.
        """
        return soft_cross_entropy(scores, labels)

    def distance(self, dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
        """How far the dummy's gradient is from the shared one, a number."""
        squared = [(gradient - shared[name]).square().sum() for name, gradient in dummy.items()]
        return torch.stack(squared).sum()

    def penalty(self, images: Tensor, terms: Terms) -> Tensor | None:
        """What is wrong with the dummy images (N, C, H, W) by themselves, a number; None: nothing is."""
        return None

    def objective(self, dummy: Gradients, shared: Gradients, images: Tensor, terms: Terms) -> Tensor:
        """What is minimised."""
        distance, penalty = self.distance(dummy, shared, terms), self.penalty(images, terms)
        return distance if penalty is None else distance + penalty

    def ending(
        self, stage: Stage, losses: Sequence[float], largest: float, stuck: bool
    ) -> tuple[Status, str] | None:
        """How and why a stage ends after an outer step; None where it goes on.

        Args:
            stage: the one that it is in.
            losses: the objective at its beginning and after each of its outer steps.
            largest: the largest absolute pixel here.
            stuck: whether nothing will ever move again.
        """
        if not math.isfinite(losses[-1]):
            return Status.DIVERGED, f"the objective became {losses[-1]}"
        if stuck:
            return Status.CONVERGED, "no step lowers the objective any more"
        if len(losses) > stage.steps:
            return Status.BUDGET, f"stopped at the limit of {self.budget} steps"
        return None

    @property
    def in_lock_step(self) -> bool:
        """See `Attack.in_lock_step`."""
        return True

    def bytes_per_slot(self, example: Case, kind: str = "cpu") -> int:
        """See `Attack.bytes_per_slot`."""
        return batched.bytes_per_slot(self, example, kind)

    def invert_many(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | NotApplicableError]]:
        """See `Attack.invert_many`."""
        return batched.run(self, cases, observe, resources)
