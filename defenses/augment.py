"""Transformed images: the policies that Gao et al. 2021 found by searching for those that hide most."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from leakbench.core.citations import ATS
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.batches import only_images

Policy = tuple[tuple[str, float], ...]  # transformations and their magnitudes, one after the other
SHIFT, CONTRAST = 150 / 331 / 9, 0.5 / 9  # a unit of magnitude, as in AutoAugment
POLICIES: dict[str, Policy] = {
    "3-1-7": (("x", 9 * SHIFT), ("contrast", 6 * CONTRAST), ("y", 2 * SHIFT)),
    "43-18-18": (("y", 3 * SHIFT), ("contrast", 7 * CONTRAST), ("contrast", 7 * CONTRAST)),
}
GRAY = torch.tensor([0.299, 0.587, 0.114])  # of red, green and blue


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
        names = list(POLICIES) if self.policy == "hybrid" else [self.policy]
        chosen = torch.randint(len(names), (len(images),), generator=generator).tolist()
        pairs = zip(only_images(self, images), chosen, strict=True)
        return torch.stack(
            [transformed(each, POLICIES[names[own]], generator) for each, own in pairs]
        ), labels

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient of the changed batch is shared as it is."""
        return Account()


def transformed(image: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """An image (C, H, W) in [0, 1] after all transformations of a policy."""
    for what, magnitude in policy:
        way = magnitude * (2 * int(torch.randint(2, (), generator=generator)) - 1)
        if what == "contrast":
            gray = (image * GRAY.to(image.dtype).view(-1, 1, 1)).sum(0) if len(image) == 3 else image.mean(0)
            image = (gray.mean() + (1 + way) * (image - gray.mean())).clamp(0, 1)
        else:
            image = shifted(image, way, dim=1 if what == "y" else 2)
    return image


def shifted(image: Tensor, share: float, dim: int) -> Tensor:
    """The image moved by that share of its side, to higher places if it is positive, and 0 behind it."""
    side = image.shape[dim]
    by = round(share * side)
    sources = torch.arange(side) - by
    inside = ((sources >= 0) & (sources < side)).to(image.dtype)
    return image.index_select(dim, sources.clamp(0, side - 1)) * inside.view(-1, *[1] * (2 - dim))
