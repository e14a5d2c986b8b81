"""A function of tensors as a flat list of PyTorch operations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
Rules = dict[Any, Callable[..., Any]]  # {operation: replacement, which may return NotImplemented}


def record(function: Callable[..., Any], rules: Rules, x: Tensor, *held: dict[str, Tensor]) -> GraphModule:
    """The operations that `function` runs on tensors of these shapes, with dead code removed."""
    # fake tensors: real ones, for all slots at once, would take more memory than the attack does
    tracer = make_fx(function, rules, tracing_mode="fake", _allow_non_fake_inputs=True)
    operations = tracer(x, *held)
    for node in operations.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # strides may differ from those of the recording
    operations.graph.eliminate_dead_code()
    operations.recompile()
    return operations


class Replayed:
    """A function of tensors as a CUDA graph, which launches its hundreds of operations with one call.

    Args:
        function: takes `x` and `held`, and does not change them.
        x: on a GPU; each call may pass another tensor of the same shape.
        held: every call reads them at their present addresses.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]], x: Tensor, *held: dict[str, Tensor]):
        self.device, self.x = x.device, x.clone()
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                function(self.x, *held)  # warm-up: libraries initialise, which a graph cannot record
            torch.cuda.current_stream().wait_stream(aside)
            torch.cuda.empty_cache()  # the graph allocates its own memory
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.results = function(self.x, *held)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The function's results at `x`; the next call overwrites them."""
        with torch.cuda.device(self.device):
            self.x.copy_(x)
            self.graph.replay()
        return self.results
