"""What a protocol is: what a client makes of its images, and what the server sees of several clients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from leakbench.core.configured import Configured
from leakbench.core.ranges import Range
from leakbench.defenses import Gradients

SmallCount = Annotated[int, Range(1, 10**4)]  # of something that a client has, or does
SmallCountOrZero = Annotated[int, Range(0, 10**4)]
Weights = Mapping[str, Tensor]  # {parameter name: tensor} of the trained parameters
GradientOf = Callable[[Weights, Tensor, Tensor], Gradients]  # (weights, images, labels) -> of the mean loss

Sent = Callable[[int, Gradients], Gradients]  # (number of a client, its update) -> what its defense leaves


class Server(NamedTuple):
    """How the server of a training moves its weights along the mean of the updates (Reddi et al. 2021)."""

    lr: float
    momentum: float = 0.0  # of SGD
    optimizer: str = "sgd"  # or adam, with PyTorch's betas

    def optimizer_of(self, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
        """That of some weights, which takes an update as their gradient."""
        if self.optimizer == "adam":
            return torch.optim.Adam(weights, self.lr)
        return torch.optim.SGD(weights, self.lr, self.momentum)


class View(NamedTuple):
    """What the server gets of the clients' updates."""

    update: Gradients  # of one client, or the mean over several
    sent_bytes: int  # of each client
    rounding: float = 0.0  # the most that an entry was moved on the way; infinite: nothing bounds it


@dataclass(frozen=True)
class Protocol(Configured):
    """What clients share. It is the victim's: every attack on it sees the same.

    Updates are at the scale of a gradient: the difference of the weights divided by rate and steps. So one
    strength of a defense means the same in every protocol.
    """

    batch_size: SmallCount = 1  # images of a client: the trial's, and those after it
    rounds: SmallCount = 1  # how often the same batch's update is shared, under fresh draws of the defense

    @property
    def seen(self) -> int:
        """The number of clients that contribute to what the server sees."""
        return 1

    @property
    def images(self) -> int:
        """The number of images that contribute to what the server sees."""
        return self.seen * self.batch_size

    @property
    def steps(self) -> int:
        """How many gradients an update is the mean of, each at other weights."""
        return 1

    @property
    def separable(self) -> bool:
        """Whether an update is the mean of one gradient per image, at the server's weights."""
        return type(self).update is Protocol.update

    @property
    def is_smooth(self) -> bool:
        """Whether the slope of an update in the images is useful to an optimiser."""
        return True

    @property
    def signed(self) -> bool:
        """Whether an update has only the signs of a gradient, or the mean of those of several clients."""
        return False

    def update(self, gradient: GradientOf, weights: Weights, images: Tensor, labels: Tensor) -> Gradients:
        """What a client makes of its batch: the step of victims, trainings and attackers' dummies alike.

        It is written in operations that `torch.func` can vectorise and differentiate.

        Args:
            gradient: of the mean loss of a batch, at any weights.
            weights: those that the server sent.
            images: (N, C, H, W).
            labels: classes (N,), or what else `gradient` takes for labels, one row per image.
        """
        return gradient(weights, images, labels)

    def expected(
        self, gradient: GradientOf, weights: Weights, images: Tensor, labels: Tensor, sent: Sent | None = None
    ) -> Gradients:
        """What the server would see if these were the clients' images: the mean of undefended updates.

        Args:
            gradient: as for `update`, which the others are for as well.
            weights: those that the server sent.
            images: of all clients, one client's after the other's: (N, C, H, W).
            labels: of these.
            sent: what a client sends of its update, for an attacker who simulates its defense.
        """
        if self.seen == 1 and sent is None:
            return self.update(gradient, weights, images, labels)
        batches = zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)
        updates = [self.update(gradient, weights, *batch) for batch in batches]
        return mean_of([sent(*each) for each in enumerate(updates)] if sent else updates)

    def server(self, asked: Server) -> Server:
        """How the server moves along the mean of the updates, by what the training asks for."""
        return asked

    def view(self, updates: Sequence[Gradients], sent_bytes: int, generator: torch.Generator) -> View:
        """What the server gets of these clients' updates, as their defenses left them.

        Args:
            updates: of the clients that it sees.
            sent_bytes: of each, as its defense sends it.
            generator: for the draws of the protocol.

        Raises:
            ContractError: updates that the protocol cannot carry.
        """
        return View(mean_of(updates), sent_bytes)


def mean_of(updates: Sequence[Gradients]) -> Gradients:
    """Name by name."""
    return {name: torch.stack([each[name] for each in updates]).mean(0) for name in updates[0]}
