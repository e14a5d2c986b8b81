"""Federated averaging (McMahan et al. 2017, algorithm 1): a client shares how its weights moved."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from leakbench.bench.protocols.base import GradientOf, Protocol, Server, SmallCount, SmallCountOrZero, Weights
from leakbench.core import citations
from leakbench.core.ranges import Positive, Share
from leakbench.defenses import Gradients

BETAS = (0.9, 0.999)  # of Adam, as PyTorch has them
EPSILON = 1e-8


@dataclass(frozen=True)
class FedAvg(Protocol):
    """Several local steps. A client shares (weights before - weights after) / (lr x steps), a mean gradient.

    The weights are rounded to their type after each step, as those of real clients are: that costs
    precision as 1 / lr. Step s takes the images s x local_batch, ..., from the start again where they end.
    """

    name: ClassVar[str] = "fedavg"
    citation: ClassVar[str] = citations.FEDSGD

    local_steps: SmallCount = 1
    local_batch: SmallCountOrZero = 0  # images in each step; 0: all of them
    lr: Positive = 0.01
    momentum: Share = 0.0  # of sgd
    optimizer: Literal["sgd", "adam"] = "sgd"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Batches divide the client's images, and `momentum` is of sgd."""
        if self.local_batch and self.batch_size % self.local_batch:
            text = f"expected a divisor of batch_size, {self.batch_size}, or 0 for all of it"
            yield "local_batch", f"{text}, got {self.local_batch}"
        elif self.local_batch and self.local_batch * self.local_steps < self.batch_size:
            least = self.batch_size // self.local_batch
            text = f"expected {least} or more, so that every image takes part, got {self.local_steps}"
            yield "local_steps", text
        if self.momentum and self.optimizer == "adam":
            yield "momentum", f"expected 0 with optimizer=adam, which has its own, got {self.momentum:g}"

    @property
    def steps(self) -> int:
        """See `Protocol.steps`."""
        return self.local_steps

    @property
    def signed(self) -> bool:
        """See `Protocol.signed`: Adam's first step."""
        return self.optimizer == "adam" and self.local_steps == 1

    @property
    def separable(self) -> bool:
        """See `Protocol.separable`; a single step on a `local_batch` does not use all images."""
        return self.steps == 1 and not self.signed and not self.local_batch

    @property
    def is_smooth(self) -> bool:
        """See `Protocol.is_smooth`: Adam divides by the size of its slope."""
        return self.optimizer == "sgd"

    def update(self, gradient: GradientOf, weights: Weights, images: Tensor, labels: Tensor) -> Gradients:
        """See `Protocol.update`."""
        size = self.local_batch or len(images)
        batches = list(zip(images.split(size), labels.split(size), strict=True))
        own, state = dict(weights), [{name: torch.zeros_like(each) for name, each in weights.items()}] * 2
        for step in range(self.local_steps):
            slope = gradient(own, *batches[step % len(batches)])
            moves, state = self._moves(slope, state, step + 1)
            own = {name: each - self.lr * moves[name] for name, each in own.items()}
        return {name: (each - own[name]) / (self.lr * self.local_steps) for name, each in weights.items()}

    def _moves(
        self, slope: Gradients, state: list[Gradients], step: int
    ) -> tuple[Gradients, list[Gradients]]:
        """What the optimiser goes along in a step, before its rate, and what it remembers."""
        if self.optimizer == "sgd":
            velocity = {name: self.momentum * state[0][name] + each for name, each in slope.items()}
            return velocity, [velocity, state[1]]
        first, second = (
            {name: beta * kept[name] + (1 - beta) * each**power for name, each in slope.items()}
            for beta, kept, power in zip(BETAS, state, (1, 2), strict=True)
        )
        corrections = [1 - beta**step for beta in BETAS]
        moves = {
            name: (each / corrections[0]) / ((second[name] / corrections[1]).sqrt() + EPSILON)
            for name, each in first.items()
        }
        return moves, [first, second]

    def server(self, _asked: Server) -> Server:
        """See `Protocol.server`: it takes the mean of the weights, at the clients' own rate."""
        return Server(self.lr * self.local_steps)
