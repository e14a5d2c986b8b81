"""Inverting Gradients: Geiping et al. 2020. The angle between the gradients, and total variation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bench.attacks.base import Case
from bench.attacks.optimised import Terms
from bench.attacks.regularised import Regularised
from defenses import Gradients, citations

WEIGHTS = (0.1, 0.1, 0.03, 0.03, 0.01, 0.01)


@dataclass(frozen=True)
class Cosine(Regularised):
    """One less the cosine between dummy and shared gradient (eq. 4), which needs to be told nothing.

    `optimizer: adam` is the paper's: Adam on the signs of the slope, pixels in a box, one weight of
    total variation. `lbfgs` has the same distance in sigmoid space, with a weight that falls.
    """

    name: ClassVar[str] = "cosine"
    citation: ClassVar[str] = citations.COSINE

    optimizer: Literal["lbfgs", "adam"] = "lbfgs"

    def weights(self, case: Case) -> Sequence[float]:
        """See `Regularised.weights`."""
        return WEIGHTS if self.optimizer == "lbfgs" else [WEIGHTS[-1]] * len(WEIGHTS)

    def distance(self, dummy: Gradients, shared: Gradients, terms: Terms) -> Tensor:
        """See `Optimised.distance`."""
        inner = torch.stack([(each * shared[name]).sum() for name, each in dummy.items()]).sum()
        own = torch.stack([each.square().sum() for each in dummy.values()]).sum()
        other = torch.stack([each.square().sum() for each in shared.values()]).sum()
        return 1 - inner / (own * other + 1e-20).sqrt()
