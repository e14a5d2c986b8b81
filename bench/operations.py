"""A function of tensors as a flat list of PyTorch's own operations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


def record(function: Callable[..., Any], x: Tensor, *held: dict[str, Tensor]) -> GraphModule:
    """The operations that `function` does with tensors of these shapes, without those it does in vain."""
    rules = {aten.convolution.default: _input_gradient} if uses_onednn(x, x.device) else {}
    # without values: those of all slots at once would take more memory than the attack does
    tracer = make_fx(function, rules, tracing_mode="fake", _allow_non_fake_inputs=True)
    operations = tracer(x, *held)
    for node in operations.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # strides may be others than while recording
    operations.graph.eliminate_dead_code()
    operations.recompile()
    return operations


def uses_onednn(example: Tensor, device: torch.device) -> bool:
    """Whether convolutions are oneDNN's, which is fastest where channels lie side by side.

    PyTorch's own ones, such as those in float64, give wrong gradients of the weights there.
    """
    return device.type == "cpu" and example.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _input_gradient(  # the arguments of aten::convolution
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:  # the tensor, or NotImplemented where it is not one of these
    """A transposed convolution as the gradient that it is: oneDNN takes half the time for it."""
    if not transposed or bias is not None:
        return NotImplemented
    steps = zip(image.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    size = [(n - 1) * s - 2 * p + d * (k - 1) + more + 1 for n, k, s, p, d, more in steps]
    like = image.new_empty(image.shape[0], weight.shape[1] * groups, *size)
    rest = (stride, padding, dilation, False, [0] * len(size), groups, [True, False, False])
    gradients: tuple[Tensor, ...] = aten.convolution_backward(image, like, weight, None, *rest)
    return gradients[0]
