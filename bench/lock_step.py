"""Trainings in lock step: models trained side by side with the gradients that their defenses let through.

At every step each client shares the update that the protocol makes of its examples, the defense changes it,
and the server moves along the mean of the updates (McMahan et al. 2017).
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from leakbench.bench.attacks import Status
from leakbench.bench.datasets import open_dataset
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.protocols.base import Server, mean_of
from leakbench.bench.training import Training
from leakbench.bench.training_row import Ending, Trained, Weights, training_row
from leakbench.bench.victim import with_layers
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.randomness import generator_for, seed_for
from leakbench.defenses import Client, Gradients, Memory, Point

EVALUATED = 500  # test examples at once
EVALUATED_WORDS = 16  # texts at once, of which each place has a score for each piece of the vocabulary


FINISHED: Ending = Status.CONVERGED, "trained to its end"


def train_together(
    trainings: Sequence[Training],
    data_root: Path,
    device: str = "cpu",
    keep: Collection[int] = (),
    moved: Callable[[int], None] = lambda _: None,
) -> list[Trained]:
    """Train up to WIDTH models in lock step: one model, data, recipe and seed, several defenses.

    All see the same examples in the same order, from the same weights; so a defense with anything but
    `apply` trains alone. A defense that raises ends its own training, as an error, and no other.

    Args:
        trainings: that differ in nothing but their defense.
        data_root: where datasets lie that do not come with the project.
        device: where to compute.
        keep: epochs after which the weights are kept, 0 for those at the beginning.
        moved: told after each epoch how many steps were taken, in all trainings together.
    """
    began = time.perf_counter()
    run = _LockStep(trainings, data_root, device)
    kept: list[dict[int, Weights]] = [{} for _ in trainings]
    for epoch in range(trainings[0].recipe.epochs + 1):
        if epoch:
            run.epoch()
            moved(len(trainings) * trainings[0].steps // trainings[0].recipe.epochs)
        for slot, own in enumerate(kept):
            if epoch in keep:
                own[epoch] = {name: tensor.cpu().clone() for name, tensor in run.state(slot).items()}
    accuracies = [run.accuracy(slot) for slot in range(len(trainings))]
    seconds = (time.perf_counter() - began) / len(trainings)
    rows = (
        training_row(training, run.endings.get(slot, FINISHED), run.steps[slot], accuracy, seconds, device)
        for slot, (training, accuracy) in enumerate(zip(trainings, accuracies, strict=True))
    )
    return [Trained(row, own) for row, own in zip(rows, kept, strict=True)]


class _LockStep:
    """Models, side by side in the first dimension of their weights, and what is left of their gradients."""

    def __init__(self, trainings: Sequence[Training], data_root: Path, device: str):
        first = trainings[0]
        self.trainings, self.recipe, self.device = trainings, first.recipe, device
        self.images, self.labels = (each.to(device) for each in first.train.read(first.model, data_root))
        self.tests, self.answers = (each.to(device) for each in first.test.read(first.model, data_root))
        source = open_dataset(first.train.dataset, data_root)
        self.classes = source.classes
        own = first.model.build(source.shape, source.classes, first.seed)
        self.network = with_layers(first.defense, own, first.model.address, first.seed).to(device)
        self.layers = [layer for layer in self.network.modules() if layer.training]  # of the defense
        self.network.eval()
        state = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        self.weights = {
            name: tensor.detach().repeat(first.room, *[1] * tensor.ndim)
            for name, tensor in trained_parameters(self.network)
        }
        self.constants = {name: tensor.detach() for name, tensor in state.items() if name not in self.weights}
        self.order = generator_for("order of examples", first.seed)
        self.draws = [
            generator_for("defense in training", each.defense.own_name, first.seed) for each in trainings
        ]
        self.memories = [[Memory() for _ in range(self.recipe.clients)] for _ in trainings]
        self.endings: dict[int, Ending] = {}  # {slot: how and why it ended early}
        self.steps = [0] * len(trainings)
        self.protocol = first.protocol
        self.by_example = Point.EXAMPLES in first.defense.points() and self.protocol.separable
        recipe = self.recipe
        server = self.protocol.server(Server(recipe.lr, recipe.momentum, recipe.optimizer))
        # of each model: views, which an optimizer changes in place
        self.own = [{name: each[slot] for name, each in self.weights.items()} for slot in range(first.room)]
        self.optimizers = [server.optimizer_of(list(own.values())) for own in self.own]
        # clients all have the same weights; where layers draw, each draws its own
        update = partial(self.protocol.update, grad(self._loss))
        of_clients = vmap(update, (None, 0, 0), randomness="different")
        self.gradients = vmap(of_clients, (0, None, None), randomness="different")

    def epoch(self) -> None:
        """Once through the examples; those that are too few for a step of all clients are left out."""
        clients, size = self.recipe.clients, self.trainings[0].examples
        order = torch.randperm(len(self.images), generator=self.order).to(self.device)
        for chosen in order.split(clients * size):
            if len(chosen) == clients * size and len(self.endings) < len(self.trainings):
                images = self.images[chosen].unflatten(0, (clients, size))
                self._step(images, self.labels[chosen].unflatten(0, (clients, size)))

    def state(self, slot: int) -> Weights:
        """A model's weights, as `torch.nn.Module.load_state_dict` takes them."""
        return {**self.own[slot], **self.constants}

    def accuracy(self, slot: int) -> float:
        """The share of test examples, or of their hidden words, whose highest score is that of the answer."""
        several = EVALUATED if self.answers.ndim == 1 else EVALUATED_WORDS
        with torch.no_grad():
            guesses = [
                functional_call(self.network, self.state(slot), (each,)).argmax(1)
                for each in self.tests.split(several)
            ]
        right = (torch.cat(guesses) == self.answers)[self.answers != NOT_ASKED]
        return float(right.double().mean())

    def _loss(self, weights: Mapping[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """The mean cross entropy of one client's examples (N, C, H, W)."""
        return functional.cross_entropy(
            functional_call(self.network, {**weights, **self.constants}, (images,)), labels
        )

    def _step(self, images: Tensor, labels: Tensor) -> None:
        """One of the optimiser, for every model, with examples (clients, N, C, H, W)."""
        if Point.BATCH in self.trainings[0].defense.points():
            try:
                with foreign():
                    images, labels = self._changed(images, labels)
            except ForeignError as error:
                self.endings[0] = Status.ERROR, str(error)
                return
        gradients = self._each_example(images, labels) if self.by_example else self._gradients(images, labels)
        clients = self._clients(images, labels)
        for slot in range(len(self.trainings)):
            if slot not in self.endings:
                own = {name: gradient[slot].cpu() for name, gradient in gradients.items()}
                try:
                    with foreign():
                        shared = self._shared(slot, own, clients)
                except ForeignError as error:
                    self.endings[slot] = _ending(own, error)
                else:
                    self._descend(slot, shared)

    def _changed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What a defense of batches, which trains alone, makes of those of the clients."""
        defense, draws = self.trainings[0].defense, self.draws[0]
        each = [
            defense.checked_batch(own.cpu(), answers.cpu(), draws, self.classes)
            for own, answers in zip(images, labels, strict=True)
        ]
        changed, answers = (torch.stack(part).to(self.device) for part in zip(*each, strict=True))
        return changed, answers

    def _each_example(self, images: Tensor, labels: Tensor) -> Gradients:
        """{name: (models, clients, N, *shape)}: as if each example were that of a client of its own."""
        each = self._gradients(images.flatten(0, 1)[:, None], labels.flatten(0, 1)[:, None])
        return {name: own.unflatten(1, labels.shape[:2]) for name, own in each.items()}

    def _gradients(self, images: Tensor, labels: Tensor) -> Gradients:
        """{name: (models, clients, *shape)}, with the layers that a defense added in training mode."""
        if not self.layers:
            return self.gradients(self.weights, images, labels)
        first = self.trainings[0]
        for layer in self.layers:
            layer.training = True
        with torch.random.fork_rng():
            torch.manual_seed(
                seed_for("layers in training", first.defense.own_name, first.seed, self.steps[0])
            )
            gradients = self.gradients(self.weights, images, labels)
        self.network.eval()
        return gradients

    def _clients(self, images: Tensor, labels: Tensor) -> list[Client | None]:
        """What a defense that sees the model and the batch, and so trains alone, gets of each client."""
        if Point.KNOWING not in self.trainings[0].defense.points():
            return [None] * self.recipe.clients
        network = deepcopy(self.network).cpu()
        parameters = dict(network.named_parameters())
        for name, weight in self.own[0].items():
            parameters[name].data.copy_(weight)
        return [Client(network, *own) for own in zip(images.cpu(), labels.cpu(), strict=True)]

    def _shared(self, slot: int, gradients: Gradients, clients: Sequence[Client | None]) -> Gradients:
        """The mean of what the clients of a model share, from gradients {name: (clients, *shape)}.

        With `by_example`, {name: (clients, N, *shape)}.
        """
        defense, draws = self.trainings[slot].defense, self.draws[slot]
        share = defense.share_each if self.by_example else defense.share
        views = []
        for _ in range(self.protocol.rounds):
            each = [
                share({name: own[number] for name, own in gradients.items()}, draws, memory, client).gradients
                for number, (memory, client) in enumerate(zip(self.memories[slot], clients, strict=True))
            ]
            views.append(self.protocol.view(each, 0, draws).update)
        return mean_of(views)

    def _descend(self, slot: int, shared: Gradients) -> None:
        self.steps[slot] += 1
        for name, gradient in shared.items():
            self.own[slot][name].grad = gradient.to(self.device)
        self.optimizers[slot].step()


def _ending(gradients: Gradients, error: ForeignError) -> Ending:
    """Why a training ended: its own gradients, or else its defense."""
    if all(bool(gradient.isfinite().all()) for gradient in gradients.values()):
        return Status.ERROR, str(error)
    return Status.DIVERGED, "a gradient became NaN or infinite"
