"""A client with labelled examples, and what it shares of them under a defense."""

import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import isinf
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.client import client_update, example_updates
from leakbench.bench.datasets import Dataset, Source, Texts, open_dataset
from leakbench.bench.models import Model
from leakbench.bench.protocols import FedSGD, Protocol
from leakbench.bench.protocols.base import mean_of
from leakbench.core.randomness import generator_for, seed_for
from leakbench.defenses import Account, Client, Defense, Gradients, Memory, Point
from leakbench.defenses.account import Mean


@dataclass(frozen=True)
class Exposed:
    """What a server gets to know of a client, and beside it what that was made of and cost."""

    network: nn.Module  # with the layers that the defense added, in evaluation mode
    shared: Gradients
    gradient: Gradients  # before `Defense.apply`; of several clients their mean
    account: Account | None  # what the defense says of `shared`
    sent_bytes: int
    seconds: float  # in `Defense.change_batch` and the methods that change gradients
    rounding: float = 0.0  # see `View.rounding`
    entered: Tensor | None = None  # the batch of all clients, if the defense changed it


@dataclass(frozen=True)
class Victim:
    """Clients with their labelled examples, of which the server sees one update or the mean of several."""

    dataset: str  # its address
    index: int
    model: str  # likewise
    model_seed: int
    source: Source  # the whole dataset
    batch: Tensor  # (N, C, H, W) or tokens (N, L), of all clients that the server sees
    inputs: Tensor  # what the network is given of it: the same, but for hidden words
    labels: Tensor  # what it is to answer: classes (N,), or the hidden words (N, L)
    network: nn.Module  # as it was built: nothing passed through it
    updates: dict[tuple[Protocol, int], Gradients] = field(default_factory=dict, compare=False)

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """How many tokens each text has; None of images."""
        return lengths_of(self.source, self.batch)

    @property
    def gradient(self) -> Gradients:
        """Of the mean loss of all images, at the weights as they were built."""
        return self._update(FedSGD(len(self.batch)), 0)

    def share(self, defense: Defense, protocol: Protocol | None = None) -> Exposed:
        """What they share, on the CPU: the mean over the rounds, as a server that looks for it would take.

        The random draws of a defense are addressed by its name, the round and the client, and not by its
        settings, nor by the attacker's start: noise of two strengths is the same noise scaled, and all
        restarts see one update.

        Raises:
            ContractError: the defense breaks its contract.
        """
        protocol = protocol or FedSGD(len(self.batch))
        memories = [Memory() for _ in range(protocol.seen)]  # of the clients, from round to round
        first = self._share(defense, protocol, (), memories)
        total = dict(first.shared)
        for number in range(1, protocol.rounds):
            again = self._share(defense, protocol, (number,), memories)
            total = {name: each + again.shared[name] for name, each in total.items()}
        shared = {name: each / protocol.rounds for name, each in total.items()}
        examples = protocol.batch_size if protocol.separable else 1
        mean = Mean(protocol.rounds, examples, protocol.seen, first.rounding)
        account = defense.checked_account(shared, mean)
        account = _with_rounding(account, shared, first.rounding)
        entered = first.entered if protocol.rounds == 1 else None  # in each round another
        return replace(first, shared=shared, account=account, entered=entered)

    def _share(
        self, defense: Defense, protocol: Protocol, number: tuple[int, ...], memories: list[Memory]
    ) -> Exposed:
        """In one round; the first has no number."""
        sent = [
            self._send(defense, protocol, number, client, memory) for client, memory in enumerate(memories)
        ]
        purpose = ("protocol", *self._purpose(protocol.own_name, number))
        generator = generator_for(*purpose)
        view = protocol.view([each.shared for each in sent], sent[0].sent_bytes, generator)
        mean = mean_of([each.gradient for each in sent])
        seconds = sum(each.seconds for each in sent) / len(sent)
        changed = [each.entered for each in sent if each.entered is not None]
        entered = torch.cat(changed) if changed else None
        return Exposed(
            sent[0].network, view.update, mean, None, view.sent_bytes, seconds, view.rounding, entered
        )

    def _send(
        self, defense: Defense, protocol: Protocol, number: tuple[int, ...], client: int, memory: Memory
    ) -> Exposed:
        """What one client sends in one round."""
        purpose = self._purpose(defense.own_name, number, client)
        generator = generator_for("defense", *purpose)
        network, seconds, entered = self.network, 0.0, None
        if defense.points() <= {Point.GRADIENT}:
            gradient = self._update(protocol, client)
            shared = defense.share(gradient, generator, memory)
        else:
            began = time.perf_counter()
            batch = defense.checked_batch(*self._batch(protocol, client), generator, self.source.classes)
            seconds = time.perf_counter() - began
            network, seed = self.network_under(defense), seed_for("layers", *purpose)
            known = Client(network, *batch)
            entered = batch[0] if Point.BATCH in defense.points() else None
            if Point.EXAMPLES in defense.points():
                each = example_updates(network, protocol, *batch, seed)
                gradient = {name: own.mean(0) for name, own in each.items()}
                shared = defense.share_each(each, generator, memory, known)
            else:
                gradient = client_update(network, protocol, *batch, seed)
                shared = defense.share(gradient, generator, memory, known)
            network.eval()
        seconds += shared.seconds
        return Exposed(network, shared.gradients, gradient, None, shared.sent_bytes, seconds, entered=entered)

    def _update(self, protocol: Protocol, client: int) -> Gradients:
        """Of a client whose defense changes only its update, worked out once."""
        if (protocol, client) not in self.updates:
            batch = self._batch(protocol, client)
            self.updates[protocol, client] = client_update(self.network, protocol, *batch)
        return self.updates[protocol, client]

    def _batch(self, protocol: Protocol, client: int) -> tuple[Tensor, Tensor]:
        own = slice(client * protocol.batch_size, (client + 1) * protocol.batch_size)
        return self.inputs[own], self.labels[own]

    def _purpose(self, name: str, number: tuple[int, ...], client: int = 0) -> tuple[str | int, ...]:
        """What draws are addressed by; the first round and the first client have no number."""
        of_client = ("client", client) if client else ()
        return name, self.dataset, self.index, self.model, self.model_seed, *number, *of_client

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


def _with_rounding(account: Account | None, shared: Gradients, rounding: float) -> Account | None:
    """The account of what the defense and then the protocol did; None where nothing bounds the latter."""
    if account is None or isinf(rounding):
        return None
    if not rounding:
        return account
    bounds = account.rounding or {name: torch.zeros_like(each) for name, each in shared.items()}
    return replace(account, rounding={name: each + rounding for name, each in bounds.items()})


@lru_cache(maxsize=4)  # trials that differ in defense, attack or start follow one another
def find_victim(dataset: Dataset, own: range, model: Model, model_seed: int, data_root: Path) -> Victim:
    """The clients with those examples of a dataset, whatever their defense and their attacker."""
    source = open_dataset(dataset, data_root)
    batch, labels = source.batch(own)
    inputs, answers = model.given(source, batch, labels, [(dataset.address, index) for index in own])
    network = model.build(source.shape, source.classes, model_seed)
    return Victim(
        dataset.address, own.start, model.address, model_seed, source, batch, inputs, answers, network
    )


def lengths_of(source: Source, batch: Tensor) -> tuple[int, ...] | None:
    """How many tokens each text (N, L) has; None of images."""
    if not isinstance(source, Texts):
        return None
    return tuple((batch != source.vocabulary.pad).sum(1).tolist())
