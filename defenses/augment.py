"""Transformed images: the policies that Gao et al. 2021 found by searching for those that hide most."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from leakbench.core.citations import ATS
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.batches import only_images
from leakbench.defenses.transformations import Policy, restored, transformed, with_signs

SHIFT, CONTRAST = 150 / 331 / 9, 0.5 / 9  # a unit of magnitude, as in AutoAugment
POLICIES: dict[str, Policy] = {
    "3-1-7": (("x", 9 * SHIFT), ("contrast", 6 * CONTRAST), ("y", 2 * SHIFT)),
    "43-18-18": (("y", 3 * SHIFT), ("contrast", 7 * CONTRAST), ("contrast", 7 * CONTRAST)),
}


@dataclass(frozen=True)
class Augment(Defense):
    """Each image is shifted and its contrast changed by a fixed policy, each time up or down at random.

    No search is made here: the two policies are those of the authors' code, found for CIFAR-100 and a ResNet;
    with `hybrid` each image gets one of both. Shifts are by whole pixels, a share of the image's side, and
    leave black behind; contrast is the distance from the image's mean gray.
    """

    citation: ClassVar[str] = ATS
    name: ClassVar[str] = "augment"
    grid: ClassVar[dict[str, list[Any]]] = {"policy": ["3-1-7", "43-18-18", "hybrid"]}

    policy: Literal["3-1-7", "43-18-18", "hybrid"] = "hybrid"

    def change_batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Defense.change_batch`."""
        chosen = torch.randint(len(self._policies), (len(images),), generator=generator).tolist()
        pairs = zip(only_images(self, images), chosen, strict=True)
        changed = [transformed(each, with_signs(self._policies[own], generator)) for each, own in pairs]
        return torch.stack(changed), labels

    def restore_batch(self, images: Tensor) -> Tensor:
        """See `Defense.restore_batch`: black, or gray, borders tell which way an image was shifted."""
        return torch.stack([restored(each, self._policies) for each in images])

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient of the changed batch is shared as it is."""
        return Account()

    @property
    def _policies(self) -> list[Policy]:
        return list(POLICIES.values()) if self.policy == "hybrid" else [POLICIES[self.policy]]
