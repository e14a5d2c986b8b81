"""The recorded victim: a client of a real federation, and the gradient that its server received."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.bench.datasets import Recorded, Source, open_dataset
from leakbench.bench.datasets.uploads import Upload
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.models import Model
from leakbench.bench.victim import Exposed, lengths_of
from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for
from leakbench.defenses import Defense, Gradients
from leakbench.defenses.contract import is_finite
from leakbench.federation.defended import gradient_defense
from leakbench.federation.rounds import read_round
from leakbench.federation.tensor_files import read_tensors


@dataclass(frozen=True)
class Received:
    """A recorded gradient, and the network that it is of."""

    network: nn.Module  # with the weights that the server sent
    gradient: Gradients
    ignored: tuple[str, ...] = ()  # what else came: buffers of the network, no part of a gradient


@dataclass(frozen=True)
class RecordedVictim:
    """What `Victim` is, of a client whose images or texts may be unknown."""

    source: Source
    batch: Tensor | None  # (N, C, H, W) or tokens (N, L); None: unknown
    labels: Tensor | None  # (N,); likewise
    network: nn.Module
    gradient: Gradients
    purpose: tuple[str | int, ...]  # the address of a defense's draws

    @property
    def lengths(self) -> tuple[int, ...] | None:
        """See `Victim.lengths`."""
        return None if self.batch is None else lengths_of(self.source, self.batch)

    def share(self, defense: Defense, _protocol: object = None) -> Exposed:
        """What was recorded, and in place of it what a defense of the gradient makes of it.

        Raises:
            UserError: the defense changes the batch or the model, which is impossible after the recording.
            ContractError: the defense breaks its contract.
        """
        generator = generator_for("defense", gradient_defense(defense).own_name, *self.purpose)
        shared = defense.share(self.gradient, generator)
        account = defense.checked_account(shared.gradients)
        return Exposed(
            self.network, shared.gradients, self.gradient, account, shared.sent_bytes, shared.seconds
        )

    def network_under(self, _defense: Defense) -> nn.Module:
        """See `Victim`; a defense on top of a recorded gradient changes no network."""
        return self.network


def find_recorded(
    dataset: Recorded, own: range, model: Model, model_seed: int, data_root: Path
) -> RecordedVictim:
    """The client whose update begins at an index, whatever its attacker.

    Raises:
        UserError: see `receive`; or another number of examples than there are behind its updates.
    """
    if len(own) != dataset.examples or own.start % dataset.examples:
        text = f"expected {dataset.examples} {dataset.modality.name} from a multiple of {dataset.examples} on"
        raise UserError(f"{dataset}: {text}, got {len(own)} from {own.start} on")
    source = open_dataset(dataset, data_root)
    received = _received(dataset, own.start, model, model_seed, str(dataset.canonical_at(own.start)))
    batch, labels = source.batch(own) if source.known else (None, None)
    purpose = dataset.address, own.start, model.address, model_seed
    if model.masked:
        labels = None  # nobody recorded which words were hidden
    return RecordedVictim(source, batch, labels, received.network, received.gradient, purpose)


@lru_cache(maxsize=4)  # trials that differ in defense, attack or start follow one another
def _received(dataset: Recorded, index: int, model: Model, model_seed: int, _content: str) -> Received:
    network = model.build(dataset.input_shape, dataset.classes, model_seed)
    return receive(dataset, dataset.upload_at(index), network)


def receive(dataset: Recorded, upload: Upload, network: nn.Module) -> Received:
    """A recorded update as the gradient of a network.

    Args:
        dataset: that it is of.
        upload: the update.
        network: as the model builds it; it is given the weights that were recorded, if there are any.

    Raises:
        UserError: no gradient, or one of another network; with a line for every problem.
    """
    if upload.round is not None:
        return _of_round(upload, upload.round, network)
    if dataset.lr is not None:
        scale = dataset.lr * dataset.made_by.steps
        return _of_steps(Path(dataset.before), Path(dataset.after), scale, network)
    shared, others = _parameters(upload.path, read_tensors(upload.path), network, "gradient")
    return Received(network, shared, _buffers(network, others))


def _of_round(upload: Upload, number: int, network: nn.Module) -> Received:
    path = upload.path
    each = read_round(path, number, upload.client)
    weights, others = _parameters(path / "weights", each.weights | each.buffers, network, "weights")
    network.load_state_dict(weights | others, strict=False)
    update = each.update(upload.client)
    buffers = each.clients[upload.client].buffers
    return Received(network, {name: update[name] for name in weights}, _buffers(network, buffers))


def _of_steps(before: Path, after: Path, scale: float, network: nn.Module) -> Received:
    """What a client's steps made of its weights, over the rate times their number: a mean gradient.

    Rounding to float32 leaves an error of about 6e-8 x |weight| / scale in every entry.
    """
    first, others = _parameters(before, read_tensors(before), network, "weights")
    second, _ = _parameters(after, read_tensors(after), network, "weights")
    if all(torch.equal(first[name], second[name]) for name in first):
        raise UserError(f"{after}: expected the weights after a step, found those of {before}")
    network.load_state_dict(first | others, strict=False)
    gradient = {name: (first[name] - second[name]) / scale for name in first}
    return Received(network, gradient, _buffers(network, others))


def _buffers(network: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """Those that are no second name of a parameter, such as that of a decoder with an embedding's weights."""
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    return tuple(name for name in names if name not in parameters)


def _parameters(path: Path, saved: Any, network: nn.Module, what: str) -> tuple[Gradients, dict[str, Tensor]]:
    """Tensors of the shapes of the trained parameters, and what else of the network's state is there."""
    wanted = dict(trained_parameters(network))
    given = _by_name(saved, list(wanted))
    if given is None:
        text = "expected a dict {parameter name: tensor} or a list of tensors"
        raise UserError(f"{path}: {text}, got {type(saved).__name__}")
    rest = network.state_dict().keys() - wanted.keys()
    others = {name: given.pop(name) for name in list(given) if name in rest}
    state = network.state_dict()
    problems = [
        *_problems(given, wanted, what),
        *(
            f"{name}: expected a buffer of shape {tuple(state[name].shape)}, found another"
            for name, each in others.items()
            if not isinstance(each, Tensor) or each.shape != state[name].shape
        ),
    ]
    if problems:
        raise UserError(*(f"{path}: {problem}" for problem in problems))
    return {name: given[name].detach().to(each.dtype) for name, each in wanted.items()}, others


def _by_name(saved: Any, names: list[str]) -> dict[str, Any] | None:
    """The saved tensors by name; of a list, those beyond the network's are numbered."""
    if isinstance(saved, Mapping):
        return {str(name): value for name, value in saved.items()}
    if isinstance(saved, list | tuple):
        numbered = [*names, *(f"number {place}" for place in range(len(names), len(saved)))]
        return dict(zip(numbered, saved, strict=False))
    return None


def _problems(given: Mapping[str, Any], wanted: Mapping[str, Tensor], what: str) -> Iterator[str]:
    for name in (name for name in wanted if name not in given):
        yield f"{name}: expected the {what} of this parameter of the model, found none"
    for name in (name for name in given if name not in wanted):
        yield f"{name}: expected only parameters of the model, and it has no such one"
    for name in (name for name in wanted if name in given):
        value, shape = given[name], tuple(wanted[name].shape)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            yield f"{name}: expected a tensor of floating-point numbers, got {type(value).__name__}"
        elif tuple(value.shape) != shape:
            yield f"{name}: expected shape {shape}, got {tuple(value.shape)}"
        elif not is_finite(value):
            yield f"{name}: expected finite numbers, found NaN or infinity"
