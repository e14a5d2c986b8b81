"""Mixup: Zhang et al. 2018. Pairs of examples are mixed, and their labels with them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from leakbench.core.citations import MIXUP
from leakbench.core.ranges import Positive
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.batches import mixed, only_images
from leakbench.defenses.unmixing import unmixed


@dataclass(frozen=True)
class Mixup(Defense):
    """Each image and its label become l times themselves plus (1 - l) times another one of the batch.

    l is drawn from Beta(alpha, alpha) and the others are a permutation, both once for a batch as in the
    authors' code. A batch of one is not changed.
    """

    citation: ClassVar[str] = MIXUP
    name: ClassVar[str] = "mixup"
    grid: ClassVar[dict[str, list[Any]]] = {"alpha": [0.2, 1.0]}

    alpha: Positive = 1.0

    @property
    def strength(self) -> float:
        """The parameter: the larger, the closer l is to a half."""
        return self.alpha

    def change_batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Defense.change_batch`."""
        seed = int(torch.randint(2**62, (), generator=generator))
        own = np.random.default_rng(seed).beta(self.alpha, self.alpha)
        weights = torch.tensor([own, 1 - own], dtype=images.dtype).expand(len(images), 2)
        return mixed(only_images(self, images), labels, weights, generator)

    def restore_batch(self, images: Tensor) -> Tensor:
        """See `Defense.restore_batch`: whatever the weights and the permutation were."""
        return unmixed(images)

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient of the changed batch is shared as it is."""
        return Account()
