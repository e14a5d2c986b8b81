"""The layers at the two ends of a network, by what passes through them."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leakbench.bench.attacks.base import NotApplicableError, Spec
from leakbench.bench.gradients import trained_parameters
from leakbench.core.randomness import generator_for


@dataclass(frozen=True)
class LayerNames:
    """The names of a linear layer's parameters."""

    weight: str  # (outputs, inputs)
    bias: str | None  # (outputs,)


def output_layer(model: nn.Module, spec: Spec) -> LayerNames:
    """The linear layer whose output the class scores are.

    Raises:
        NotApplicableError: there is none, or its weights are not trained.
    """
    own = deepcopy(model)  # a model may keep what passed through it
    outputs: list[tuple[nn.Linear, Tensor]] = []
    for module in own.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda linear, _, output: outputs.append((linear, output)))
    with torch.no_grad():
        scores = own(torch.zeros(spec.batch_shape, dtype=next(own.parameters()).dtype))
    names: dict[Tensor, str] = {parameter: name for name, parameter in trained_parameters(own)}
    for linear, output in outputs:
        if output is scores and linear.weight in names:
            return LayerNames(names[linear.weight], names.get(linear.bias))
    text = "expected a model whose class scores come from an nn.Linear, to read labels off its gradient"
    raise NotApplicableError(text)


@dataclass(frozen=True)
class InputLayer:
    """A linear layer that every pixel goes into, and nothing else."""

    weight: str  # the names of its parameters
    bias: str
    model: nn.Module  # a copy, which it is part of
    linear: nn.Linear

    def slopes(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Its outputs (N, m), and the gradient of each image's cross entropy in them, likewise.

        Args:
            images: (N, C, H, W), of the model's dtype.
            labels: the classes (N,).
        """
        seen: list[Tensor] = []
        hook = self.linear.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
        with torch.enable_grad():
            scores = self.model(images)
            loss = nn.functional.cross_entropy(scores, labels, reduction="sum")
            (slopes,) = torch.autograd.grad(loss, seen[-1])
        hook.remove()
        return seen[-1].detach(), slopes


def input_layer(model: nn.Module, spec: Spec) -> InputLayer:
    """The linear layer that takes the pixels as they are.

    Raises:
        NotApplicableError: there is none, or its weights or bias are not trained.
    """
    own = deepcopy(model)  # likewise
    inputs: list[tuple[nn.Linear, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda layer, given, _: inputs.append((layer, given[0])))
        for module in own.modules()
        if isinstance(module, nn.Linear)
    ]
    images = torch.rand(spec.batch_shape, generator=generator_for("input layer"))
    images = images.to(next(own.parameters()).dtype)
    with torch.no_grad():
        own(images)
    for hook in hooks:
        hook.remove()
    names: dict[Tensor, str] = {parameter: name for name, parameter in trained_parameters(own)}
    for linear, given in inputs:
        if torch.equal(given, images.flatten(1)) and linear.weight in names and linear.bias in names:
            return InputLayer(names[linear.weight], names[linear.bias], own, linear)
    raise NotApplicableError("expected a model whose first layer is an nn.Linear with a bias, on all pixels")
