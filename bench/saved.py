"""A gradient that somebody saved, from a training of their own."""

import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import Attack, Case, Found, Resources, Spec
from leakbench.bench.gradients import trained_parameters
from leakbench.core.errors import UserError
from leakbench.defenses import Gradients
from leakbench.defenses.base import is_finite


def load_gradient(path: Path, network: nn.Module) -> Gradients:
    """The gradient in a file, by the names of the network's parameters.

    Args:
        path: saved by `torch.save`: a dict {parameter name: tensor}, or a list of tensors in the order of
            `network.parameters()`. Only tensors are read from it, no code.
        network: whose gradient it is.

    Raises:
        UserError: no such file, no gradient in it, or other names or shapes than the network's; with a
            line for every problem.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of pickles that torch.save did not write
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        text = "expected tensors that torch.save has written"
        raise UserError(f"{path}: {text}, got {type(error).__name__}") from error
    wanted = dict(trained_parameters(network))
    given = _by_name(saved, list(wanted))
    if given is None:
        text = "expected a dict {parameter name: tensor} or a list of tensors"
        raise UserError(f"{path}: {text}, got {type(saved).__name__}")
    problems = list(_problems(given, wanted))
    if problems:
        raise UserError(*(f"{path}: {problem}" for problem in problems))
    return {name: given[name].detach().to(parameter.dtype) for name, parameter in wanted.items()}


def _by_name(saved: Any, names: list[str]) -> dict[str, Any] | None:
    """The saved tensors by name; of a list, those beyond the network's are numbered."""
    if isinstance(saved, Mapping):
        return {str(name): value for name, value in saved.items()}
    if isinstance(saved, list | tuple):
        numbered = [*names, *(f"number {place}" for place in range(len(names), len(saved)))]
        return dict(zip(numbered, saved, strict=False))
    return None


def _problems(given: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    for name in (name for name in wanted if name not in given):
        yield f"{name}: expected the gradient of this parameter of the model, found none"
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
) -> list[Found]:
    """What an attack makes of one gradient from several starts, in their order.

    Args:
        shared: as `load_gradient` gives it.
        network: with the weights that it was taken at.
        spec: of the images behind it.
        attack: how it is inverted.
        restarts: how many starts.
        resources: where to compute, and how many starts at once.

    Raises:
        UserError: the attack breaks its contract.
    """
    cases = (Case(number, network, shared, spec, ("saved gradient", number)) for number in range(restarts))
    found = {}
    for number, each in attack.run(cases, lambda *_: None, resources):
        if isinstance(each, Exception):
            raise UserError(str(each))
        found[number] = each
    return [found[number] for number in range(restarts)]
