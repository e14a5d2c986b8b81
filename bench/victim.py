"""A client with labelled images, and what it shares of them under a defense."""

import time
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.datasets import Dataset, Images, open_dataset
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.models import Model
from leakbench.core.randomness import generator_for, seed_for
from leakbench.defenses import Account, Defense, Gradients, Point


@dataclass(frozen=True)
class Exposed:
    """What a server gets to know of a client, and beside it what that was made of and cost."""

    network: nn.Module  # with the layers that the defense added, in evaluation mode
    shared: Gradients
    gradient: Gradients  # before `Defense.apply`
    account: Account | None  # what the defense says of `shared`
    sent_bytes: int
    seconds: float  # in `Defense.change_batch` and `Defense.apply`


@dataclass(frozen=True)
class Victim:
    """A client with its labelled images, and the gradient that it has for them without a defense."""

    dataset: str  # its address
    index: int
    model: str  # likewise
    model_seed: int
    images: Images  # of the whole data set
    batch: Tensor  # (N, C, H, W), its own
    labels: Tensor  # (N,)
    network: nn.Module  # as it was built: nothing passed through it
    gradient: Gradients

    def share(self, defense: Defense, rounds: int = 1) -> Exposed:
        """What it shares, on the CPU: the mean over the rounds, as a server that looks for it would take.

        The random draws of a defense are addressed by its name and the round and not by its settings,
        nor by the attacker's start: noise of two strengths is the same noise scaled, and all restarts
        see one gradient.

        Raises:
            ContractError: the defense breaks its contract.
        """
        first = exposed = self._share(defense, ())
        total = dict(first.shared)
        for number in range(1, rounds):
            exposed = self._share(defense, (number,))
            total = {name: each + exposed.shared[name] for name, each in total.items()}
        shared = {name: each / rounds for name, each in total.items()}
        return replace(first, shared=shared, account=defense.checked_account(shared, rounds))

    def _share(self, defense: Defense, number: tuple[int, ...]) -> Exposed:
        """In one round; the first has no number."""
        purpose: tuple[str | int, ...] = (
            defense.own_name, self.dataset, self.index, self.model, self.model_seed, *number
        )  # fmt: skip
        generator = generator_for("defense", *purpose)
        network, gradient, seconds = self.network, self.gradient, 0.0
        if defense.points() & {Point.MODEL, Point.BATCH}:
            began = time.perf_counter()
            batch = defense.checked_batch(self.batch, self.labels, generator)
            seconds = time.perf_counter() - began
            network = self.network_under(defense)
            gradient = client_gradient(network, *batch, seed_for("layers", *purpose))
            network.eval()
        shared = defense.share(gradient, generator)
        seconds += shared.seconds
        return Exposed(network, shared.gradients, gradient, None, shared.sent_bytes, seconds)

    def network_under(self, defense: Defense) -> nn.Module:
        """See `with_layers`."""
        return with_layers(defense, self.network, self.model, self.model_seed)


def with_layers(defense: Defense, network: nn.Module, model: str, model_seed: int) -> nn.Module:
    """The network as the defense changes it, the same for every image: see `Defense.checked_model`.

    `model` is the model's address.
    """
    if Point.MODEL not in defense.points():
        return network
    return defense.checked_model(
        deepcopy(network), seed_for("added layers", defense.own_name, model, model_seed)
    )


def client_gradient(network: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Gradients:
    """See `shared_gradient`; layers in training mode draw what the seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return shared_gradient(deepcopy(network), images, labels)  # it may keep what passed through it


@lru_cache(maxsize=4)  # trials that differ in defense, attack or start follow one another
def find_victim(dataset: Dataset, own: range, model: Model, model_seed: int, data_root: Path) -> Victim:
    """The client with those images of a data set, whatever its defense and its attacker."""
    images = open_dataset(dataset, data_root)
    batch, labels = images.batch(own)
    network = model.build(images.shape, images.classes, model_seed)
    gradient = shared_gradient(deepcopy(network), batch, labels)  # likewise
    return Victim(
        dataset.address, own.start, model.address, model_seed, images, batch, labels, network, gradient
    )
