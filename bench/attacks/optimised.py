"""The base class of optimisation attacks, which change dummies until their gradient matches the shared one.

Its parts are separate: the start and the free variables (`candidates`), the mapping from variables to pixels
(`pixels`), the objective (`training_loss`, `distance`, `penalty`), and the optimiser (`stepper`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from leakbench.bench.attacks import batched
from leakbench.bench.attacks.base import Attack, Case, Found, NotApplicableError, Observer, Resources, Status
from leakbench.bench.gradients import soft_cross_entropy
from leakbench.bench.protocols.base import Sent
from leakbench.bench.steppers import Stepper
from leakbench.defenses import Gradients

if TYPE_CHECKING:
    from leakbench.bench.attacks.runs import Run

Terms = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """A part of an attack with its own objective."""

    steps: int  # the most outer steps
    terms: Mapping[str, float] = field(default_factory=dict)  # values for some of the candidate's terms


@dataclass(frozen=True)
class Candidate:
    """One way to start on a case. All candidates of one attack and architecture have equal shapes."""

    images: Tensor  # (N, C, H, W): the variables that `Optimised.pixels` maps to the dummy images
    labels: Tensor  # (N, K): logits, either optimised too or passed to `training_loss`
    stages: Sequence[Stage]
    terms: Terms = field(default_factory=dict)  # other tensors that its objective uses
    free_labels: bool = False  # whether the labels are optimised

    @property
    def variable(self) -> Tensor:
        """All optimised variables in one vector (size,)."""
        free = [self.images, self.labels] if self.free_labels else [self.images]
        return torch.cat([each.flatten() for each in free])

    def labels_at(self, variable: Tensor) -> Tensor:
        """The labels at a variable (size,): logits (N, K) if they are optimised, else classes (N,)."""
        if not self.free_labels:
            return self.labels.argmax(-1)
        return variable[self.images.numel() :].view(self.labels.shape)


@dataclass(frozen=True)
class Optimised(Attack, ABC):
    """An attack that minimises an objective, for many gradients at once, each in its own slot.

    All methods except `candidates` and `stepper` are written for one gradient, in operations that
    `torch.func` vectorises: no branch may depend on a tensor's values.
    """

    @abstractmethod
    def candidates(self, case: Case) -> Sequence[Candidate]:
        """The starts of the attack; after the first stage only the one with the lowest objective continues.

        Raises:
            NotApplicableError: the attack cannot handle such a case.
        """

    @abstractmethod
    def stepper(self, slots: int, size: int, device: torch.device, dtype: torch.dtype) -> Stepper:
        """The optimiser of the variables (B, size) of B slots."""

    def pixels(self, variable: Tensor) -> Tensor:
        """The dummy images that the variables stand for, of the same shape."""
        return variable

    def renewed(self, run: "Run") -> Terms:
        """Terms of a run that depend on the point at which it enters its present stage; by default none."""
        return {}

    def simulated(self, terms: Terms) -> Sent | None:
        """What clients send of their dummy images' updates: see `Protocol.expected`; None: all of them."""
        return None

    def training_loss(self, scores: Tensor, labels: Tensor, terms: Terms) -> Tensor:
        """The loss that gives the dummy's gradient: cross entropy against softmax(labels).

        Args:
            scores: the class scores of the dummy images (N, K).
            labels: the candidate's labels (N, K).
            terms: the candidate's terms.
        """
        return soft_cross_entropy(scores, labels)

    def distance(self, dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
        """The distance of the dummy's gradient from the shared one, a scalar."""
        squared = [(gradient - shared[name]).square().sum() for name, gradient in dummy.items()]
        return torch.stack(squared).sum()

    def penalty(self, images: Tensor, terms: Terms) -> Tensor | None:
        """A penalty on the dummy images (N, C, H, W), a scalar; None: no penalty."""
        return None

    def objective(self, dummy: Gradients, shared: Gradients, images: Tensor, terms: Terms) -> Tensor:
        """The scalar to minimise: distance plus penalty."""
        distance, penalty = self.distance(dummy, shared, terms), self.penalty(images, terms)
        return distance if penalty is None else distance + penalty

    def ending(
        self, stage: Stage, losses: Sequence[float], largest: float, stuck: bool
    ) -> tuple[Status, str] | None:
        """How and why a stage ends after an outer step; None if it continues.

        Args:
            stage: the present stage.
            losses: the objective at its beginning and after each of its outer steps.
            largest: the largest absolute pixel value at present.
            stuck: whether the run will never move again.
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
