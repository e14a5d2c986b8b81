"""A network as a chain: blocks of linear operations, each followed by an invertible activation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from leakbench.bench.gradients import trained_parameters
from leakbench.bench.operations import record
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.randomness import generator_for

aten = torch.ops.aten
EDGE = 1e-7  # the least distance of an activation's output from its bound; closer ones are clamped
LINEAR = 1e-6  # relative deviation up to which an operation counts as linear, for rounding
NAMES = "sigmoid, tanh, ReLU, leaky ReLU, ELU"


def _inverse_elu(outputs: Tensor, alpha: float = 1.0, scale: float = 1.0, into: float = 1.0) -> Tensor:
    below = (outputs / (alpha * scale)).clamp(min=EDGE - 1).log1p() / into
    return torch.where(outputs > 0, outputs / scale, below)


INVERSES: dict[Any, Callable[..., Tensor]] = {
    aten.sigmoid.default: lambda outputs: outputs.logit(EDGE),
    aten.tanh.default: lambda outputs: outputs.clamp(EDGE - 1, 1 - EDGE).atanh(),
    aten.relu.default: lambda outputs: outputs,
    aten.leaky_relu.default: lambda outputs, slope=0.01: torch.where(outputs < 0, outputs / slope, outputs),
    aten.elu.default: _inverse_elu,
}


@dataclass(frozen=True)
class Activation:
    """An elementwise function that can be inverted where it is not flat."""

    operation: Any
    settings: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The name of the operation, such as `sigmoid`."""
        return name_of(self.operation)

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs, of the same shape as the inputs."""
        outputs: Tensor = self.operation(inputs, *self.settings)
        return outputs

    def inverse(self, outputs: Tensor) -> Tensor:
        """Inputs that give these outputs; near a bound or where the function is flat, one of many."""
        return INVERSES[self.operation](outputs, *self.settings)

    def slope(self, inputs: Tensor) -> Tensor:
        """The derivative at these inputs, of their shape."""
        at = inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(self(at).sum(), at)
        return slope


@dataclass(frozen=True)
class Block:
    """A sequence of operations with one input, and the activation that follows.

    In a chain made by `chain_of` with `linear=True`, the operations together are affine in the input.
    """

    entry: Node  # its value is the input
    nodes: Sequence[Node]  # in order of execution
    constants: Mapping[Node, Tensor]
    parameters: Mapping[Node, str]  # the trained ones, by name
    shape: torch.Size  # of the input, with a batch of one
    activation: Activation | None  # None: the outputs are the class scores

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its trained parameters."""
        return tuple(self.parameters.values())

    @property
    def name(self) -> str:
        """The name of the layer of the first trained parameter or, without any, of the first operation."""
        return self.names[0].rpartition(".")[0] or self.names[0] if self.names else str(self.nodes[0])

    def __call__(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The outputs for one input, before the activation.

        Args:
            inputs: of shape `shape`, float64.
            weights: {name: tensor}, including all its trained parameters.
        """
        outputs: Tensor
        *_, outputs = self.values(inputs, weights)
        return outputs

    def values(self, inputs: Tensor, weights: Mapping[str, Tensor]) -> Iterator[Any]:
        """Yield the input, then the result of each operation."""
        given = {node: weights[name] for node, name in self.parameters.items()}
        values: dict[Node, Any] = {self.entry: inputs, **self.constants, **given}
        yield inputs
        for node in self.nodes:
            arguments, options = map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*arguments, **options)  # type: ignore[operator]
            yield values[node]


@dataclass
class Chain:
    """The blocks of a network, beginning at the image, up to where it stops being a chain."""

    weights: dict[str, Tensor]  # the trained parameters, float64
    blocks: list[Block] = field(default_factory=list)
    problem: str = ""  # why the rest is not a chain; empty if the whole network is one

    def inputs_of(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the input of each block for an image (1, C, H, W)."""
        for block in self.blocks:
            yield image
            if block.activation:
                image = block.activation(block(image, self.weights))


def chain_of(model: nn.Module, shape: tuple[int, int, int], linear: bool = True) -> Chain:
    """A network as a chain, for one image; if it is not a chain, `Chain.problem` says why.

    Args:
        model: maps (N, C, H, W) to class scores.
        shape: (C, H, W) of the image.
        linear: whether blocks must be linear; if not, each block extends to the next activation that all
            paths pass through, so that a residual unit is one block.
    """
    own = deepcopy(model).double()  # a model may store its inputs
    weights = {name: parameter.detach() for name, parameter in trained_parameters(own)}

    def scores(image: Tensor, weights: dict[str, Tensor]) -> Any:
        return functional_call(own, weights, (image,))

    image = torch.zeros(1, *shape, dtype=torch.float64)
    try:
        with foreign(SystemExit):
            operations = record(functionalize(scores), {}, image, weights)
    except ForeignError as error:
        return Chain(weights, problem=f"its operations cannot be recorded: {type(error.cause).__name__}")
    return _Reader(operations, weights, image, linear).read()


class _Reader:
    """Splits recorded operations into blocks at invertible activations."""

    def __init__(self, operations: GraphModule, weights: dict[str, Tensor], image: Tensor, linear: bool):
        self.operations, self.image, self.linear = operations, image, linear
        self.entry, *parameters = operations.graph.find_nodes(op="placeholder")
        self.names = dict(zip(parameters, weights, strict=True))
        self.moving = {self.entry}  # nodes whose values depend on the image
        self.nodes: list[Node] = []  # those since the entry
        self.chain = Chain(weights)

    def read(self) -> Chain:
        for node in self.operations.graph.nodes:
            if node.op == "call_function" and self.moving.intersection(node.all_input_nodes):
                self.chain.problem = self._take(node)
            if not self.chain.problem and node.op == "output":
                self.chain.problem = self._close(None)
            if self.chain.problem:
                break
        return self.chain

    def _take(self, node: Node) -> str:
        """Add an operation; return what is wrong with it, or an empty string."""
        here = {self.entry, *self.nodes}
        self.moving.add(node)
        if not here.issuperset(self.moving.intersection(node.all_input_nodes)):
            return f"{name_of(node.target)} also takes a value from before the last activation"
        if node.target not in INVERSES or not (self.linear or self._all_pass(node)):
            self.nodes.append(node)
            return ""
        problem = self._close(Activation(node.target, tuple(node.args[1:])))
        self.entry, self.nodes = node, []
        return problem

    def _all_pass(self, node: Node) -> bool:
        """Whether no later operation takes a value from before this one."""
        before = {self.entry, *self.nodes}
        return all(user in self.moving for each in before for user in each.users)

    def _close(self, activation: Activation | None) -> str:
        """End a block; return what is wrong with it, or an empty string."""
        needed = _with_what_they_need(self.nodes, {self.entry})
        block = Block(
            self.entry,
            [node for node in needed if node.op == "call_function"],
            {node: getattr(self.operations, str(node.target)) for node in needed if node.op == "get_attr"},
            {node: self.names[node] for node in needed if node.op == "placeholder"},
            self.image.shape,
            activation,
        )
        crooked = self.linear and _not_linear(block, self.chain.weights)
        if crooked:
            return f"{crooked} is neither linear nor an activation that can be inverted ({NAMES})"
        before = {name for each in self.chain.blocks for name in each.names}
        twice = before.intersection(block.names)
        if twice:
            return f"{twice.pop()} is used in two layers"
        self.chain.blocks.append(block)
        outputs = block(self.image, self.chain.weights)
        self.image = activation(outputs) if activation else outputs
        return ""


def _with_what_they_need(nodes: Sequence[Node], entries: set[Node]) -> list[Node]:
    """The nodes and everything their values depend on, except the entries, in order."""
    found: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found and node not in entries:
            found.add(node)
            waiting += node.all_input_nodes
    return [node for node in nodes[0].graph.nodes if node in found] if nodes else []


def _not_linear(block: Block, weights: Mapping[str, Tensor]) -> str:
    """The name of the first operation that is not linear in the block's input; empty if all are."""
    generator = generator_for("is it linear")
    a, b = (torch.randn(block.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    points = [a, b, a + b, torch.zeros_like(a)]
    values = zip(*(block.values(point, weights) for point in points), strict=True)
    for node, (at_a, at_b, at_both, at_zero) in zip([block.entry, *block.nodes], values, strict=True):
        if isinstance(at_a, Tensor) and at_a.is_floating_point():
            off = (at_both - at_a - at_b + at_zero).abs().max()
            if not off <= LINEAR * (at_a.abs().max() + at_b.abs().max() + at_zero.abs().max()):
                source = node.all_input_nodes[0] if node.target is getitem else node
                return name_of(source.target)
    return ""


def name_of(operation: Any) -> str:
    """The name of a PyTorch operation, such as `max_pool2d`."""
    return str(operation.__name__).split(".")[0].removesuffix("_with_indices")
