"""PerTensor: gradient matching in which every tensor of the gradient weighs the same.

A plausible idea that does not help: with one scale for all, the last layer, which is most of a LeNet's
gradient, keeps its weight (docs/LOG.md). The file shows how little an attack by optimisation takes.
"""

from dataclasses import dataclass

import torch

from leakbench import Regularised


@dataclass(frozen=True)
class PerTensor(Regularised):
    """The squared distance of each tensor in its own square, and total variation."""

    def weights(self, case):
        return [10.0, 3.0, 1.0, 0.3, 0.1, 0.03]  # of total variation, one a stage

    def distance(self, dummy, shared, terms):
        parts = [
            (each - shared[name]).square().sum() / (shared[name].square().sum() + 1e-12)
            for name, each in dummy.items()
        ]
        return 1000 * torch.stack(parts).mean()
