"""The match loss of many dummies at once, and its gradient: one call for a whole batch."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, grad_and_value, vmap

from bench.attacks.base import Case
from bench.gradients import trained_parameters

log = logging.getLogger("leakbench")
Evaluate = Callable[..., tuple[Tensor, Tensor]]


class BatchClosure:
    """Holds the weights and shared gradients of B slots; maps x (B, size) to losses and gradients.

    The same mathematics as `bench.gradients.match_loss`, vectorised over slots by torch.func.
    """

    def __init__(self, example: Case, pixels: Callable[[Tensor], Tensor], slots: int, device: torch.device):
        self.network = example.model.to(device)
        self.shape = example.start.image.shape
        self.pixels = pixels
        self.image = slice(0, example.start.image.numel())
        self.label = slice(self.image.stop, self.image.stop + example.start.label_logits.numel())
        trained: dict[str, Tensor] = dict(trained_parameters(self.network))
        others = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}

        def room(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: tensor.detach()[None].expand(slots, *tensor.shape).clone()
                for name, tensor in tensors.items()
            }

        self.weights = room(trained)
        self.constants = room({name: tensor for name, tensor in others.items() if name not in trained})
        self.shared = room({name: example.shared[name].to(device) for name in trained})
        self.evaluate: Evaluate = vmap(grad_and_value(self._match_loss))

    def put(self, slot: int, case: Case) -> None:
        """Hold another victim's weights and shared gradient in that slot."""
        state = {**dict(case.model.named_parameters()), **dict(case.model.named_buffers())}
        for held, tensors in (
            (self.weights, state),
            (self.constants, state),
            (self.shared, case.shared),
        ):
            for name, tensor in held.items():
                tensor[slot] = tensors[name].detach()

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Match losses (B,) and their gradients (B, size) at x (B, size)."""
        gradients, losses = self.evaluate(x, *self._held())
        return losses, gradients

    def compile(self, x: Tensor) -> None:
        """Compile the evaluation, if that works here and keeps slots independent of their place."""
        plain = self.evaluate
        try:
            self.evaluate = torch.compile(plain, dynamic=False)
            independent = self._place_is_nothing(x)
        except Exception as error:  # noqa: BLE001  # no compiler, no headers, an operator it cannot do
            log.warning("torch.compile does not work here, going on without: %s", first_line(error))
            independent = False
        if not independent:
            self.evaluate = plain

    def _place_is_nothing(self, x: Tensor) -> bool:
        """Whether the same problems give the same numbers in other slots."""
        points = self._points(x)
        turn = torch.arange(len(x), device=x.device).roll(1)
        straight = self.evaluate(points, *self._held())
        turned = self.evaluate(
            points[turn], *({k: t[turn] for k, t in held.items()} for held in self._held())
        )
        return all(torch.equal(a[turn], b) for a, b in zip(straight, turned, strict=True))

    def _points(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)

    def same_bits(self, x: Tensor, width: int) -> bool:
        """Whether the first `width` slots alone give the very same numbers at random points."""
        points = self._points(x)
        whole = self.evaluate(points, *self._held())
        first = [{name: t[:width] for name, t in held.items()} for held in self._held()]
        part = self.evaluate(points[:width], *first)
        return all(torch.equal(a[:width], b) for a, b in zip(whole, part, strict=True))

    def _held(self) -> tuple[dict[str, Tensor], ...]:
        return self.weights, self.constants, self.shared

    def _match_loss(
        self,
        x: Tensor,
        weights: dict[str, Tensor],
        constants: dict[str, Tensor],
        shared: dict[str, Tensor],
    ) -> Tensor:
        """Of one slot: see `bench.gradients.match_loss`."""
        image, label_logits = self.pixels(x[self.image]).view(self.shape), x[self.label]

        def loss(weights: dict[str, Tensor]) -> Tensor:
            scores: Tensor = functional_call(self.network, {**weights, **constants}, (image[None],))
            return -(label_logits.softmax(-1) * scores.log_softmax(-1)).sum()

        dummy = grad(loss)(weights)
        squared = [(gradient - shared[name]).square().sum() for name, gradient in dummy.items()]
        return torch.stack(squared).sum()


def first_line(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
