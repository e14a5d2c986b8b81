"""PerTensor: gradient matching in which every tensor of the gradient has the same weight.

A plausible idea that does not help: with one scale for all tensors, the last layer, which makes up most of
a LeNet's gradient, keeps its weight (docs/LOG.md). The file shows how little code such an attack needs.
"""

from dataclasses import dataclass

import torch

from leakbench import Regularised


@dataclass(frozen=True)
class PerTensor(Regularised):
    """The squared distance of each tensor, divided by its squared norm, plus total variation."""

    def weights(self, case):
        return [10.0, 3.0, 1.0, 0.3, 0.1, 0.03]  # of total variation, one per stage

    def distance(self, dummy, shared, terms):
        parts = [
            (each - shared[name]).square().sum() / (shared[name].square().sum() + 1e-12)
            for name, each in dummy.items()
        ]
        return 1000 * torch.stack(parts).mean()
