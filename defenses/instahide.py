"""InstaHide: Huang et al. 2020. Images are mixed, and the signs of their pixels drawn."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import INSTAHIDE
from leakbench.core.ranges import Count, Unit
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.batches import mixed, only_images, weights_of

ERROR = 0.03  # of a pixel that an attack found


@dataclass(frozen=True)
class InstaHide(Defense):
    """Each image becomes a mean of k of its batch, weighted at random, and each pixel's sign is drawn.

    "Inside" InstaHide: without public images. Weights are |N(0, 1)| divided by their sum, drawn again while
    one of several is above 0.65. The sign is that of a pixel's distance from `center`: one in two pixels p
    becomes 2 center - p. With 0.5, that is the paper's range [-1, 1] mapped to [0, 1]; the authors' code has
    the dataset's mean, and digits need it (0.13), since around 0.5 black and white are the same. The labels
    are mixed, too. Of a batch of one, only the signs change. Models are tested on plain images.
    """

    citation: ClassVar[str] = INSTAHIDE
    name: ClassVar[str] = "instahide"
    grid: ClassVar[dict[str, list[Any]]] = {"k": [2, 4]}

    k: Count = 4
    center: Unit = 0.5

    @property
    def strength(self) -> float:
        """The mean weight of the others."""
        return 1 - 1 / self.k

    def change_batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Defense.change_batch`."""
        weights = torch.stack([weights_of(self.k, generator) for _ in images]).to(images.dtype)
        hidden, answers = mixed(only_images(self, images), labels, weights, generator)
        flipped = torch.randint(2, images.shape, generator=generator).bool()
        return torch.where(flipped, 2 * self.center - hidden, hidden), answers

    def restore_batch(self, images: Tensor) -> Tensor:
        """See `Defense.restore_batch`: the side of `center` that lies in [0, 1]; if both do, the darker."""
        distance = (images - self.center).abs()
        darker = self.center - distance
        return torch.where(darker < -ERROR, self.center + distance, darker.clamp(min=0))

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient of the changed batch is shared as it is."""
        return Account()
