"""A gradient that somebody saved, from a training of their own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import Attack, Case, Found, Resources, Spec
from leakbench.bench.attacks.base import Observer
from leakbench.bench.gradients import trained_parameters
from leakbench.core.errors import UserError
from leakbench.defenses import Gradients
from leakbench.defenses.base import is_finite
from leakbench.federation.tensor_files import read_tensors


@dataclass(frozen=True)
class Recorded:
    """A gradient that somebody has recorded."""

    shared: Gradients  # by the names of the network's trained parameters
    ignored: tuple[str, ...] = ()  # what else was in the files: buffers of the network


def load_gradient(path: Path, network: nn.Module) -> Recorded:
    """The gradient in a file.

    Args:
        path: a dict {parameter name: tensor}, or a list of tensors in the order of `network.parameters()`;
            see `read_tensors` for the formats. Only tensors are read from it, no code.
        network: whose gradient it is.

    Raises:
        UserError: no such file, no gradient in it, or other names or shapes than the network's; with a
            line for every problem.
    """
    shared, others = _parameters(path, network, "gradient")
    return Recorded(shared, tuple(others))


def gradient_of_step(before: Path, after: Path, lr: float, network: nn.Module) -> Recorded:
    """The gradient of one step of plain gradient descent: the difference of the weights over the rate.

    The network then has the weights from before the step, with its buffers as far as they are in the file.
    Rounding to float32 leaves an error of about 6e-8 x |weight| / rate in every entry.

    Args:
        before: the state dict before the step.
        after: the state dict after it.
        lr: the learning rate, > 0.
        network: whose weights they are.

    Raises:
        UserError: as `load_gradient`, or both files hold the same weights.
    """
    first, others = _parameters(before, network, "weights")
    second, _ = _parameters(after, network, "weights")
    if all(torch.equal(first[name], second[name]) for name in first):
        raise UserError(f"{after}: expected the weights after a step, found those of {before}")
    network.load_state_dict(first | others, strict=False)
    return Recorded({name: (first[name] - second[name]) / lr for name in first}, tuple(others))


def _parameters(path: Path, network: nn.Module, what: str) -> tuple[Gradients, dict[str, Tensor]]:
    """Tensors of the shapes of the trained parameters, and what else of the network's state is there."""
    saved = read_tensors(path)
    wanted = dict(trained_parameters(network))
    given = _by_name(saved, list(wanted))
    if given is None:
        text = "expected a dict {parameter name: tensor} or a list of tensors"
        raise UserError(f"{path}: {text}, got {type(saved).__name__}")
    rest = network.state_dict().keys() - wanted.keys()
    others = {name: given.pop(name) for name in list(given) if name in rest}
    problems = list(_problems(given, wanted, what))
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


def invert(
    shared: Gradients,
    network: nn.Module,
    spec: Spec,
    attack: Attack,
    restarts: int,
    resources: Resources,
    observe: Observer = lambda *_: None,
) -> list[Found]:
    """What an attack makes of one gradient from several starts, in their order.

    Args:
        shared: as `load_gradient` gives it.
        network: with the weights that it was taken at.
        spec: of the images behind it.
        attack: how it is inverted.
        restarts: how many starts.
        resources: where to compute, and how many starts at once.
        observe: told of every outer step.

    Raises:
        UserError: the attack breaks its contract.
    """
    cases = (Case(number, network, shared, spec, ("saved gradient", number)) for number in range(restarts))
    found = {}
    for number, each in attack.run(cases, observe, resources):
        if isinstance(each, Exception):
            raise UserError(str(each))
        found[number] = each
    return [found[number] for number in range(restarts)]
