"""Whether a defense keeps its contract, tried on gradients, batches and models of many kinds."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.attackable import model_problems
from leakbench.bench.datasets import DATASETS, Images, open_images
from leakbench.bench.models import MODELS
from leakbench.bench.victim import Victim, find_victim, with_layers
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES, Client, Defense, Gradients, Point
from leakbench.sweeps.checks import defense_problems
from leakbench.sweeps.conformance.accounts import account_problem
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

ENTRIES = 1_000_000  # of the gradient on which the time is measured
MEGABYTE = 1_000_000
BATCHES = (1, 8)  # images
NETWORKS = ("lenet", "mlp")
SHAPES = {"kernel": (4, 3, 5, 5), "bias": (7,), "one entry": (1,), "number": (), "matrix": (64, 33)}


def findings(defense: Defense) -> Iterator[Finding]:
    """Every check of a defense, one after the other."""
    return tried(defense, _attempts(defense))


def seconds_a_megabyte(defense: Defense) -> float:
    """The seconds that `apply` takes per MB of float32: the shortest of three times."""
    gradients, client = {"gradient": torch.randn(ENTRIES, generator=generator_for("speed"))}, None
    if Point.KNOWING in defense.points():
        gradients, client = _of_client(_lenet())
    times = (defense.share(gradients, generator_for("check"), client=client).seconds for _ in range(3))
    return min(times) * MEGABYTE / sum(each.nbytes for each in gradients.values())


def _attempts(defense: Defense) -> Attempts:
    yield SETTINGS, partial(_described, defense)
    if Point.KNOWING in defense.points():
        for network, count in product(NETWORKS, BATCHES):
            yield f"the model {network} and its batch of {count}", partial(_known, defense, network, count)
    else:
        for what, gradients in _gradients():
            yield what, partial(_shared, defense, gradients)
    yield "the same gradients from an equal generator, and no other randomness", partial(_repeated, defense)
    yield "its account", partial(account_problem, defense, partial(_accountable, defense))
    if Point.EXAMPLES in defense.points():
        yield "gradients of 3 examples", partial(_examples, defense)
    if Point.BATCH in defense.points():
        for count in BATCHES:
            yield f"a batch of {count}", partial(_batch, defense, count)
    if Point.MODEL in defense.points():
        for network in NETWORKS:
            yield f"the model {network}, trained and attacked", partial(_network, defense, network)


def _gradients() -> Iterator[tuple[str, Gradients]]:
    """Gradients that a defense may meet, each with a description."""
    generator = generator_for("gradients to check with")
    plain = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    yield "a gradient of a LeNet", _lenet().gradient
    yield "shapes from a single entry to a kernel", plain
    yield "float64", {name: each.double() for name, each in plain.items()}
    yield "zeros", {name: torch.zeros_like(each) for name, each in plain.items()}
    yield "entries that are all equal", {name: torch.ones_like(each) for name, each in plain.items()}
    yield "entries of 1e-30", {name: 1e-30 * each for name, each in plain.items()}
    yield "entries of 1e4", {name: 1e4 * each for name, each in plain.items()}


def _described(defense: Defense) -> str | None:
    return next(defense_problems(defense), None) or read_back(defense, DEFENSES)


def _shared(defense: Defense, gradients: Gradients) -> None:
    defense.share(gradients, generator_for("check"))


def _repeated(defense: Defense) -> str | None:
    victim = _lenet()
    first, before = victim.share(defense), torch.random.get_rng_state()
    again = victim.share(defense)
    if any(not torch.equal(first.shared[name], again.shared[name]) for name in first.shared):
        return "expected the same gradients again, got others; draw from `generator` alone"
    if not torch.equal(before, torch.random.get_rng_state()):
        return "used PyTorch's global random generator; draw only from `generator`"
    return None


def _accountable(defense: Defense) -> Iterator[tuple[str, Gradients, Client | None]]:
    """Gradients that a defense's account is tried on; some have zeros of their own."""
    yield "a gradient of a LeNet", *_of_client(_lenet())
    yield "a gradient of a LeNet with ReLUs", *_of_client(_lenet("lenet(activation=relu)"))
    if Point.KNOWING not in defense.points():
        generator = generator_for("gradients to account for")
        yield "a large gradient", {"matrix": torch.randn(500, 400, generator=generator)}, None
        yield "zeros", {"matrix": torch.zeros(500, 400)}, None


def _known(defense: Defense, network: str, count: int) -> None:
    victim = _victim(network, count)
    victim.share(defense)


def _of_client(victim: Victim) -> tuple[Gradients, Client]:
    return victim.gradient, Client(victim.network, victim.inputs, victim.labels)


def _examples(defense: Defense) -> None:
    generator = generator_for("gradients of examples")
    each = {name: torch.randn(3, *shape, generator=generator) for name, shape in SHAPES.items()}
    defense.share_each(each, generator_for("check"))


def _batch(defense: Defense, count: int) -> None:
    images, batch, labels = _images(count)
    given = images.shape, images.classes
    changed, answers = defense.checked_batch(batch, labels, generator_for("check"), images.classes)
    defense.checked_restoration(changed)
    scores = MODELS.parse("lenet").build(*given, seed=0)(changed)
    nn.functional.cross_entropy(scores, answers)


def _network(defense: Defense, name: str) -> str | None:
    images, batch, labels = _images(1)
    model = MODELS.parse(name)
    defense.checked_part(with_layers(defense, model.build(images.shape, images.classes, 0), name, 0).eval())

    def build() -> nn.Module:
        plain = model.build(images.shape, images.classes, seed=0)
        return with_layers(defense, plain, name, 0).eval()

    return next(model_problems(model, images, batch, labels, True, build), None)


def _images(count: int) -> tuple[Images, Tensor, Tensor]:
    images = open_images(DATASETS.parse("cifar10-sample"), Path())
    return images, *images.batch(range(count))


def _lenet(model: str = "lenet") -> Victim:
    return _victim(model, 1)


def _victim(model: str, count: int) -> Victim:
    return find_victim(DATASETS.parse("cifar10-sample"), range(count), MODELS.parse(model), 0, Path())
