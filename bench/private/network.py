"""A network whose weights are shared, on images that are shared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.private.arithmetic import (
    Masked,
    Truncations,
    convolve,
    masked,
    product,
    truncate,
    windows,
)
from leakbench.bench.private.comparison import relu
from leakbench.bench.private.parties import Parties, Sender
from leakbench.bench.private.steps import Kind, Step
from leakbench.bench.sharing import FixedPoint


@dataclass(frozen=True)
class Held:
    """What the parties hold of a step's weights."""

    weight: Masked
    bias: Tensor | None  # shares, as they are added: (2, outputs) or (2, outputs, 1, 1)


class SharedNetwork:
    """A network that its owner has shared among the parties; its weights are masked once, for all images."""

    def __init__(self, parties: Parties, steps: Sequence[Step], encoding: FixedPoint):
        self.parties, self.steps, self.encoding = parties, steps, encoding
        self.truncations = Truncations()
        self.held = [self._hold(step) for step in steps]

    def __call__(self, images: Tensor) -> Tensor:
        """What the owner of images (B, C, H, W) learns: the class scores (B, classes), float64."""
        shares = self.parties.give(self.encoding.encode(images), Sender.OWNER, "image")
        for step, held in zip(self.steps, self.held, strict=True):
            shares = self._take(step, held, shares)
        return self.encoding.decode(self.parties.deliver(shares))

    def _hold(self, step: Step) -> Held | None:
        if step.weight is None:
            return None
        shares = self.parties.give(self.encoding.encode(step.weight), Sender.OWNER, "weight")
        (weight,) = masked(self.parties, shares, what="weight")
        if step.bias is None:
            return Held(weight, None)
        bias = self.parties.give(self.encoding.encode(step.bias), Sender.OWNER, "bias")
        return Held(weight, bias if step.kind is Kind.LINEAR else bias[..., None, None])

    def _take(self, step: Step, held: Held | None, shares: Tensor) -> Tensor:
        if held is not None:
            return self._weigh(step, held, shares)
        if step.kind is Kind.RELU:
            return relu(self.parties, shares)
        if step.kind is Kind.POOL:
            sums = torch.stack([windows(own, step).sum((-2, -1)) for own in shares])
            return truncate(sums, step.window[0] * step.window[1], self.truncations)
        return shares.flatten(2)

    def _weigh(self, step: Step, held: Held, shares: Tensor) -> Tensor:
        """A product has the scale squared: it is truncated before a bias of the scale is added."""
        (inputs,) = masked(self.parties, shares, what="input")
        products = product(self.parties, inputs, held.weight, _times(step))
        scores = truncate(products, self.encoding.scale, self.truncations)
        return scores if held.bias is None else scores + held.bias[:, None]


def _times(step: Step) -> Callable[[Tensor, Tensor], Tensor]:
    if step.kind is Kind.CONVOLUTION:
        return lambda values, weight: convolve(values, weight, step)
    return lambda values, weight: values @ weight.T.contiguous()
