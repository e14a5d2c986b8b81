"""A network as steps that can be taken on shares: linear, convolution, average pool, ReLU, flatten."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign

EXPECTED = "linear, convolution, average pool, ReLU and flatten layers, one after the other"


class Kind(Enum):
    """What is done."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"
    POOL = "average pool"
    RELU = "ReLU"
    FLATTEN = "flatten"


@dataclass(frozen=True)
class Step:
    """One of them. Windows, steps between them and padding are (height, width)."""

    name: str
    kind: Kind
    weight: Tensor | None = None  # (outputs, inputs) or (outputs, inputs, height, width)
    bias: Tensor | None = None  # (outputs,)
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def __call__(self, values: Tensor) -> Tensor:
        """The same in the clear: (B, ...) floating-point numbers."""
        if self.kind is Kind.LINEAR:
            return functional.linear(values, self.weight, self.bias)  # type: ignore[arg-type]
        if self.kind is Kind.CONVOLUTION:
            return functional.conv2d(values, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]
        if self.kind is Kind.POOL:
            return functional.avg_pool2d(values, self.window, self.stride, self.padding)
        return values.relu() if self.kind is Kind.RELU else values.flatten(1)


def steps_of(network: nn.Module) -> list[Step]:
    """What the network does, in order.

    Raises:
        UserError: it is something else; with the first layer that is.
    """
    try:
        with foreign(SystemExit):
            traced = fx.symbolic_trace(network)
    except ForeignError as error:
        raise UserError(f"expected a network that torch.fx can trace, got {error.short}") from error
    first, *nodes, last = traced.graph.nodes
    steps, before = [], first
    for node in nodes:
        if node.op == "get_attr" or node.all_input_nodes != [before]:
            raise UserError(f"layer {node.name}: expected {EXPECTED}, found one that takes another input")
        steps += list(_steps(node, traced))
        before = node
    if last.args[0] is not before:
        raise UserError(f"expected {EXPECTED}, found a network whose last layer is not its output")
    return steps


def _steps(node: fx.Node, traced: fx.GraphModule) -> Iterator[Step]:
    if node.op == "call_module":
        layer = traced.get_submodule(str(node.target))
        reader = READERS.get(type(layer))
        if reader is None:
            raise UserError(f"layer {node.target}: expected {EXPECTED}, found {type(layer).__name__}")
        yield from reader(str(node.target), layer)
    else:
        called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if called == "relu" or (called == "flatten" and (node.args[1:], dict(node.kwargs)) in FLAT):
            yield Step(node.name, Kind.RELU if called == "relu" else Kind.FLATTEN)
        else:
            raise UserError(f"layer {node.name}: expected {EXPECTED}, found {called}")


FLAT: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((1,), {}), ((), {"start_dim": 1})]


def _linear(name: str, layer: Any) -> Iterator[Step]:
    yield Step(name, Kind.LINEAR, *_weights(layer))


def _convolution(name: str, layer: Any) -> Iterator[Step]:
    wanted = {"dilation": (1, 1), "groups": 1, "padding_mode": "zeros"}
    _expect(name, layer, wanted)
    if isinstance(layer.padding, str):
        raise UserError(f"layer {name}: expected padding in numbers, got {layer.padding!r}")
    yield Step(
        name, Kind.CONVOLUTION, *_weights(layer), window=layer.kernel_size, stride=layer.stride,
        padding=layer.padding,
    )  # fmt: skip


def _pool(name: str, layer: Any) -> Iterator[Step]:
    _expect(name, layer, {"ceil_mode": False, "divisor_override": None})
    window, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
    if padding != (0, 0):
        _expect(name, layer, {"count_include_pad": True})
    yield Step(name, Kind.POOL, window=window, stride=stride, padding=padding)


def _relu(name: str, _layer: Any) -> Iterator[Step]:
    yield Step(name, Kind.RELU)


def _flatten(name: str, layer: Any) -> Iterator[Step]:
    _expect(name, layer, {"start_dim": 1, "end_dim": -1})
    yield Step(name, Kind.FLATTEN)


def _nothing(_name: str, _layer: Any) -> Iterator[Step]:
    yield from ()


READERS: Mapping[type, Callable[[str, Any], Iterator[Step]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.AvgPool2d: _pool,
    nn.ReLU: _relu,
    nn.Flatten: _flatten,
    nn.Identity: _nothing,
}


def _weights(layer: Any) -> tuple[Tensor, Tensor | None]:
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _expect(name: str, layer: Any, wanted: Mapping[str, Any]) -> None:
    """Settings that the steps do not have."""
    for setting, value in wanted.items():
        found = getattr(layer, setting)
        if found != value:
            kind = type(layer).__name__
            raise UserError(f"layer {name}: expected {kind} with {setting}={value!r}, got {found!r}")


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def outputs_of(steps: Sequence[Step], images: Tensor) -> Iterator[Tensor]:
    """What each step gives in the clear, for images (B, C, H, W)."""
    with torch.no_grad():
        for step in steps:
            images = step(images)
            yield images
