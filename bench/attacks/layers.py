"""Finds the first and the last layer of a network by the tensors that pass through them."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leakbench.bench.attacks.base import NotApplicableError
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities import Spec
from leakbench.core.randomness import generator_for


@dataclass(frozen=True)
class LayerNames:
    """The names of a linear layer's parameters."""

    weight: str  # (outputs, inputs)
    bias: str | None  # (outputs,)


def output_layer(model: nn.Module, spec: Spec) -> LayerNames:
    """The linear layer whose outputs are the class scores.

    Raises:
        NotApplicableError: there is none, or its weights are not trained.
    """
    own = deepcopy(model)  # a model may store its inputs
    outputs: list[tuple[nn.Linear, Tensor]] = []
    for module in own.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda linear, _, output: outputs.append((linear, output)))
    with torch.no_grad():
        scores = own(spec.blank(next(own.parameters()).dtype))
    names: dict[Tensor, str] = {parameter: name for name, parameter in trained_parameters(own)}
    for linear, output in outputs:
        if output is scores and linear.weight in names:
            return LayerNames(names[linear.weight], names.get(linear.bias))
    text = "expected a model whose class scores come from an nn.Linear, to read labels off its gradient"
    raise NotApplicableError(text)


@dataclass(frozen=True)
class InputLayer:
    """A linear layer whose inputs are exactly the pixels."""

    weight: str  # names of its parameters
    bias: str
    model: nn.Module  # a copy that contains the layer
    linear: nn.Linear

    def slopes(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Its outputs (N, m), and the gradient (N, m) of each image's cross entropy with respect to them.

        Args:
            images: (N, C, H, W), in the model's dtype.
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
    """The linear layer whose inputs are the unchanged pixels.

    Raises:
        NotApplicableError: there is none, or its weights or bias are not trained.
    """
    own = deepcopy(model)  # a model may store its inputs
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
