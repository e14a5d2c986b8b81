"""Gradients of linear layers as two factors each, which are compared without their product."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Passing = Callable[[str, Tensor, Tensor], Tensor | None]  # name, what a layer is given, what it gives

ALIKE = 1e-3  # of a gradient's length: by that much the product of its factors may differ from it


@dataclass(frozen=True)
class LinearFactors:
    """The linear layers of a network whose gradients follow from what passes through them.

    The gradient of a weight (out, in) is the sum over tokens of the outer product of two rows: the slope of
    the loss in what the layer gives (N, out), and what it is given (N, in). For few tokens these are far
    smaller than the gradient, and its square and its product with another follow from them (Li et al. 2022,
    "Large Language Models Can Be Strong Differentially Private Learners", section 4).
    """

    layers: dict[str, nn.Linear]  # by the names of their weights
    nothing: dict[str, Tensor]  # zeros, as large as what each layer gives

    @contextmanager
    def noted(self, added: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Adds something to what each layer gives, and yields what it is given, once the network has run."""
        inputs: dict[str, Tensor] = {}

        def passing(name: str, given: Tensor, gives: Tensor) -> Tensor:
            inputs[name] = given
            return gives + added[name]

        with _watched(self.layers, passing):
            yield inputs


def linear_factors(model: nn.Module, names: Collection[str], loss: Callable[[], Tensor]) -> LinearFactors:
    """Those of a network.

    Args:
        model: of the network.
        names: of the parameters that may be left to factors.
        loss: runs the network on an example, and returns its loss, a scalar.
    """
    parameters = dict(model.named_parameters())
    known: dict[Tensor, str] = {parameters[name]: name for name in names}
    linears = [each for each in model.modules() if isinstance(each, nn.Linear)]
    layers = {known[each.weight]: each for each in linears if each.weight in known}
    passed: dict[str, tuple[Tensor, Tensor]] = {}

    def passing(name: str, given: Tensor, gives: Tensor) -> None:
        passed[name] = (given, gives)

    with torch.enable_grad(), _watched(layers, passing):
        value = loss()
    if not passed:
        return LinearFactors({}, {})
    outputs = [gives for _, gives in passed.values()]
    slopes = torch.autograd.grad(value, outputs, retain_graph=True)
    gradients = torch.autograd.grad(value, [parameters[name] for name in passed])
    right = [
        name
        for (name, (given, _)), slope, gradient in zip(passed.items(), slopes, gradients, strict=True)
        if _is_product(gradient, rows_of(slope), rows_of(given))
    ]
    return LinearFactors(
        {name: layers[name] for name in right},
        {name: torch.zeros_like(passed[name][1]) for name in right},
    )


def rows_of(passing: Tensor) -> Tensor:
    """What passes through a layer (..., features), in rows (N, features)."""
    return passing.reshape(-1, passing.shape[-1])


def inner_product(slopes: Tensor, given: Tensor, other: Tensor) -> Tensor:
    """That of another gradient (out, in) and the product of factors (N, out) and (N, in), a scalar."""
    found: Tensor = torch.linalg.vecdot(slopes @ other, given).double().sum()
    return found


def square(slopes: Tensor, given: Tensor) -> Tensor:
    """That of the product of factors (N, out) and (N, in), a scalar."""
    slopes, given = slopes.double(), given.double()  # what tokens have in common may cancel in the sum
    found: Tensor = ((slopes @ slopes.T) * (given @ given.T)).sum()
    return found


@contextmanager
def _watched(layers: Mapping[str, nn.Linear], passing: Passing) -> Iterator[None]:
    """Meanwhile something is called with what passes through each layer, and may replace what it gives."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        return lambda _, given, gives: passing(name, given[0], gives)

    hooks = [layer.register_forward_hook(hook_of(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_product(gradient: Tensor, slopes: Tensor, given: Tensor) -> bool:
    """Whether a gradient is this: not if the layer ran twice, or its weight is used elsewhere, too."""
    return bool((slopes.T @ given - gradient).norm() <= ALIKE * gradient.norm())
