"""The objective of many dummies at once, and its gradient, with one call for a whole batch.

torch.func vectorises the computation over slots. The result is recorded once as a flat list of
operations, because the overhead of torch.func costs as much as the arithmetic of small models. On a GPU
the list becomes a CUDA graph, because launching an operation costs as much as running it.
"""

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, grad_and_value, vmap

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.memory import peak_bytes
from leakbench.bench.convolutions import convolution_rules, uses_onednn
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.operations import Replayed, record
from leakbench.bench.protocols.base import Protocol, Weights
from leakbench.bench.sums import sum_rules
from leakbench.core.errors import one_line
from leakbench.core.foreign import ForeignError, foreign

if TYPE_CHECKING:
    from leakbench.bench.attacks.optimised import Candidate, Optimised

log = logging.getLogger("leakbench")
LABELS = "labels"
Held = dict[str, Tensor]  # {parameter name: (B, *shape)}
Evaluate = Callable[[Tensor, Held, Held, Held, Held], tuple[Tensor, Tensor]]


class BatchClosure:
    """Holds the weights, shared gradients and terms of B slots; maps x (B, size) to losses and gradients.

    The attack defines the computation for one slot; torch.func vectorises it over slots.
    """

    def __init__(
        self,
        attack: "Optimised",
        example: Case,
        candidate: "Candidate",
        slots: int,
        device: torch.device,
        compiled: bool = False,
        kind: str = "",
    ):
        self.network = deepcopy(example.model)  # a model may store its inputs
        self.attack = attack
        self.protocol = example.protocol or Protocol()  # of the clients, as far as the attack knows it
        self.shape = candidate.images.shape  # (N, C, H, W)
        self.free_labels = candidate.free_labels
        self.device = device
        self.kind = kind or device.type
        self.channels_last = uses_onednn(candidate.images, self.kind)
        trained = dict(trained_parameters(self.network))
        others = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        self.weights = self._room(trained, slots)
        self.constants = self._room({n: t for n, t in others.items() if n not in trained}, slots)
        self.shared = self._room({name: example.shared[name] for name in trained}, slots)
        self.terms = self._room(_terms(candidate), slots)
        self.compiled = compiled and self.kind == "cpu"  # on a GPU, compiled sums have no fixed order
        self.recorded: dict[int, Evaluate] = {}  # {width: operations}
        self.replayed: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None  # on a GPU
        self.intermediate_bytes = 0  # of intermediate results, at the last recorded width

    def _room(self, tensors: Mapping[str, Tensor], slots: int) -> Held:
        """`slots` copies of each tensor."""

        def copies(tensor: Tensor) -> Tensor:
            return tensor.detach().to(self.device).repeat(slots, *[1] * tensor.ndim)

        return {
            name: copies(tensor.permute(0, 2, 3, 1)).permute(0, 1, 4, 2, 3)
            if self.channels_last and is_kernel(tensor)
            else copies(tensor)
            for name, tensor in tensors.items()
        }

    def put(self, slot: int, case: Case, candidate: "Candidate") -> None:
        """Copy a victim's weights and shared gradient and a candidate's terms into that slot."""
        state = {**dict(case.model.named_parameters()), **dict(case.model.named_buffers())}
        for held, tensors in (
            (self.weights, state),
            (self.constants, state),
            (self.shared, case.shared),
            (self.terms, _terms(candidate)),
        ):
            for name, tensor in held.items():
                tensor[slot] = tensors[name].detach()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (B,) and their gradients (B, size) at x (B, size); the next call may overwrite them."""
        if self.device.type != "cuda":
            return self._evaluate(x, *self._held())
        self.replayed = self.replayed or self._replayed(x)
        return self.replayed(x)

    def _replayed(self, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        try:
            return Replayed(self._evaluate, x, *self._held())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # for example, an operation that waits for the GPU
            log.warning("CUDA graphs do not work here; continuing without: %s", one_line(error))
            return lambda x: self._evaluate(x, *self._held())

    def _held(self) -> tuple[Held, Held, Held, Held]:
        return self.weights, self.constants, self.shared, self.terms

    def _evaluate(self, x: Tensor, *held: Held) -> tuple[Tensor, Tensor]:
        if len(x) not in self.recorded:
            self.recorded[len(x)] = self._record(x, *held)
        return self.recorded[len(x)](x, *held)

    def _record(self, x: Tensor, *held: Held) -> Evaluate:
        rules = convolution_rules(x, self.kind) | sum_rules(self.kind)
        plain = record(self._vectorised, rules, x, *held)
        self.intermediate_bytes = peak_bytes(plain)
        return self._compile(plain, x, *held) if self.compiled else plain

    def _compile(self, plain: Evaluate, x: Tensor, *held: Held) -> Evaluate:
        compiled: Evaluate = torch.compile(plain, dynamic=False)
        try:
            with foreign(SystemExit):  # no compiler, no headers, an unsupported operator
                compiled(x, *held)
        except ForeignError as error:
            self.compiled = False
            log.warning("torch.compile does not work here; continuing without: %s", error)
            return plain
        return compiled

    def check(self, x: Tensor) -> None:
        """Test, while all slots hold the example, whether results depend on a slot's place."""
        points, turn = _points(x), torch.arange(len(x), device=x.device).roll(1)
        straight = [each[turn] for each in self(points)]
        if all(torch.equal(a, b) for a, b in zip(straight, self(points[turn]), strict=True)):
            return
        if self.compiled:
            self.compiled = False
            self.recorded.clear()
            log.warning("compiled results depend on a slot's place; continuing without torch.compile")
            self.check(x)
        else:
            log.warning("the last digits of this model's results depend on the other trials in the batch")

    def same_bits(self, x: Tensor, width: int) -> bool:
        """Whether the first `width` slots alone give exactly the same numbers at random points."""
        points = _points(x)
        whole = [each[:width] for each in self(points)]
        first = ({name: t[:width] for name, t in held.items()} for held in self._held())
        part = self._evaluate(points[:width], *first)
        return all(torch.equal(a, b) for a, b in zip(whole, part, strict=True))

    def _vectorised(self, x: Tensor, *held: Held) -> tuple[Tensor, Tensor]:
        images, labels = x.split([self.shape.numel(), x.shape[1] - self.shape.numel()], 1)
        images = images.view(-1, *self.shape)
        if self.channels_last:  # the layout for one convolution over all slots
            images = images.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)
        terms = dict(held[-1])
        if self.free_labels:
            terms[LABELS] = labels.view(len(x), self.shape[0], -1)
        slope = grad_and_value(self._objective, argnums=(0, 1) if self.free_labels else 0)
        slopes: Callable[..., Any] = vmap(slope)
        gradients, losses = slopes(images, terms.pop(LABELS), *held[:-1], terms)
        found = gradients if self.free_labels else [gradients]
        return losses, torch.cat([each.flatten(1) for each in found], 1)

    def _objective(
        self, variable: Tensor, labels: Tensor, weights: Held, constants: Held, shared: Held, terms: Held
    ) -> Tensor:
        """The objective of one slot."""
        images = self.attack.pixels(variable)

        def loss(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
            scores = functional_call(self.network, {**weights, **constants}, (images,))
            return self.attack.training_loss(scores, labels, terms)

        dummy = self.protocol.expected(grad(loss), weights, images, labels, self.attack.simulated(terms))
        return self.attack.objective(dummy, shared, images, terms)


def _terms(candidate: "Candidate") -> dict[str, Tensor]:
    """A candidate's terms, with its labels unless these are part of x."""
    return dict(candidate.terms) if candidate.free_labels else {**candidate.terms, LABELS: candidate.labels}


def is_kernel(tensor: Tensor) -> bool:
    """Whether it is a convolution kernel larger than one pixel; oneDNN may not compute the others."""
    return tensor.ndim == 4 and tensor.dtype == torch.float32 and min(tensor.shape[2:]) > 1


def _points(x: Tensor) -> Tensor:
    """A random point for each slot, of the shape of x."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
