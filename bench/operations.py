"""A function of tensors as a flat list of PyTorch's own operations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
Rules = dict[Any, Callable[..., Any]]  # {operation: what does it instead, or answers NotImplemented}


def record(function: Callable[..., Any], rules: Rules, x: Tensor, *held: dict[str, Tensor]) -> GraphModule:
    """The operations that `function` does with tensors of these shapes, without those it does in vain."""
    # without values: those of all slots at once would take more memory than the attack does
    tracer = make_fx(function, rules, tracing_mode="fake", _allow_non_fake_inputs=True)
    operations = tracer(x, *held)
    for node in operations.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # strides may be others than while recording
    operations.graph.eliminate_dead_code()
    operations.recompile()
    return operations


class Replayed:
    """A function of tensors as a CUDA graph: its hundreds of operations are started by one call.

    Args:
        function: of `x` and `held`, that leaves them as they are.
        x: on a GPU; another of its shape may be given in each call.
        held: read at every call where they lie now.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]], x: Tensor, *held: dict[str, Tensor]):
        self.device, self.x = x.device, x.clone()
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                function(self.x, *held)  # libraries set themselves up, which no graph can hold
            torch.cuda.current_stream().wait_stream(aside)
            torch.cuda.empty_cache()  # the graph takes memory of its own
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.results = function(self.x, *held)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The function's results at `x`; the next call writes over them."""
        with torch.cuda.device(self.device):
            self.x.copy_(x)
            self.graph.replay()
        return self.results
