"""An optimisation attack that starts from the result of a closed-form attack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from leakbench.bench.attacks.adaptive import Adaptive, least_weight
from leakbench.bench.attacks.base import Case, Steps
from leakbench.bench.attacks.linear import Linear
from leakbench.bench.attacks.optimised import Candidate, Stage
from leakbench.bench.attacks.recursive import Recursive
from leakbench.bench.attacks.regularised import certain
from leakbench.bench.gradients import gradient_at
from leakbench.bench.posterior import total_variation

MARGIN = 0.02  # the start's distance from black and white, where the slope of the sigmoid is 0


@dataclass(frozen=True)
class Hybrid(Adaptive):
    """`adaptive`, started from the result of `linear` or `recursive`, with less smoothing than from grey."""

    name: ClassVar[str] = "hybrid"
    falling: ClassVar[tuple[float, ...]] = (1.0, 0.3, 0.1, 0.03)
    shares: ClassVar[tuple[float, ...]] = (0.25, 0.25, 0.25, 0.25)

    steps: Steps = 100  # outer steps, of five evaluations each

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        return Linear().refusal(example) and Recursive().refusal(example)

    def bytes_per_slot(self, example: Case, kind: str = "cpu") -> int:
        """See `Attack.bytes_per_slot`; the start has no effect on it."""
        return Adaptive().bytes_per_slot(example, kind)

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`; several images come with their labels, in the same order."""
        found = (Recursive() if Linear().refusal(case) else Linear()).invert(case)
        images = found.x.clamp(MARGIN, 1 - MARGIN)
        candidates = super().candidates(case)
        if found.labels is not None and case.spec.count > 1:
            labels = certain(found.labels, case.spec.classes).to(images.dtype)
            candidates = [replace(candidates[0], labels=labels, free_labels=False)]
        return [
            replace(each, images=images.logit(), stages=self._gentler(case, images, each))
            for each in candidates
        ]

    def _gentler(self, case: Case, images: Tensor, candidate: Candidate) -> list[Stage]:
        """The candidate's stages, with smoothing limited to the misfit of the start."""
        dummy = gradient_at(case.model, images, candidate.labels.argmax(1))
        misfit = float(self.distance(dummy, case.shared, self.terms(case)))
        share = min(1.0, misfit / float(total_variation(images)))
        least = least_weight(case)
        return [
            Stage(stage.steps, {"tv": max(share * stage.terms["tv"], least)}) for stage in candidate.stages
        ]
