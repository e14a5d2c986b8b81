"""Secure aggregation (Bonawitz et al. 2017): the server gets a sum, and nothing else of what clients send."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from leakbench.bench.protocols.base import (
    GradientOf,
    Protocol,
    Server,
    SmallCount,
    SmallCountOrZero,
    View,
    Weights,
)
from leakbench.bench.sharing import Encoding, FixedPoint, Levels, Ring, check_modulus
from leakbench.core import citations
from leakbench.core.configured import SettingError
from leakbench.core.ranges import Range
from leakbench.core.registry import name_and_settings
from leakbench.defenses import ContractError, Gradients

Bits = Annotated[int, Range(0, 52)]  # so that float64 holds every level


@dataclass(frozen=True)
class SecureSum(Protocol):
    """The sum mod 2^modulus of updates in fixed precision, from which colluders take their own parts out.

    The shares that make it up are uniform and reveal nothing (`bench.sharing`), so the sum is all that a
    server has. Colluding clients know their parts exactly, and a client that drops out has none: with n
    clients, c colluders and d dropouts the sum of n - c - d is left.
    """

    name: ClassVar[str] = "secure_sum"
    citation: ClassVar[str] = citations.SECURE_SUM

    clients: SmallCount = 4
    of: str = "fedsgd"  # what each client makes of its images
    base: int = 10  # fixed precision as PySyft has it: base^-digits, truncated
    digits: int = 3
    bits: Bits = 0  # where not 0, as SecAgg+ has it: 2^bits levels in +-clip, rounded by chance
    clip: float = 8.0
    modulus: int = 64  # bits of the numbers that are summed
    colluders: SmallCountOrZero = 0
    dropouts: SmallCountOrZero = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        """Some client seen, a protocol of theirs, an encoding, and a modulus with room for values up to 1."""
        found = list(self._problems())
        yield from found or self._overflow()

    def _problems(self) -> Iterator[tuple[str, str]]:
        if self.seen < 1:
            text = f"expected fewer than {self.clients} clients that collude or drop out"
            yield "colluders", f"{text}, got {self.colluders} and {self.dropouts}"
        for setting, make in (
            ("of", lambda: self.inner),
            ("", lambda: self.encoding),
            ("modulus", self._ring),
        ):
            try:
                make()
            except SettingError as error:
                yield from ((setting or name, text) for name, text in error.problems)

    def _overflow(self) -> Iterator[tuple[str, str]]:
        try:
            check_modulus(self.encoding, self._ring(), self.clients - self.dropouts, 1.0)
        except SettingError as error:
            yield from error.problems

    def canonical(self) -> dict[str, Any]:
        """As for all; a protocol of the user's counts by its content."""
        return {**super().canonical(), "of": self.inner.canonical()}

    @cached_property
    def inner(self) -> Protocol:
        """The protocol of each client."""
        from leakbench.bench.protocols import PROTOCOLS  # this one is among them

        name, settings = name_and_settings(self.of)
        if outside := [setting for setting in ("batch_size", "rounds") if setting in settings]:
            raise SettingError(
                [("of", f"expected no {outside[0]} in it, which stands next to it: {self.of}")]
            )
        found = PROTOCOLS.build(name, {**settings, "batch_size": self.batch_size})
        if isinstance(found, SecureSum):
            raise SettingError([("of", f"expected what a client makes of its images, got {self.of}")])
        return found

    @cached_property
    def encoding(self) -> Encoding:
        """Of numbers as whole ones."""
        return Levels(self.clip, 1 << self.bits) if self.bits else FixedPoint(self.base, self.digits)

    def _ring(self) -> Ring:
        return Ring(self.modulus)

    @property
    def seen(self) -> int:
        """See `Protocol.seen`."""
        return self.clients - self.colluders - self.dropouts

    @property
    def steps(self) -> int:
        """See `Protocol.steps`."""
        return self.inner.steps

    @property
    def signed(self) -> bool:
        """See `Protocol.signed`."""
        return self.inner.signed

    @property
    def separable(self) -> bool:
        """See `Protocol.separable`: that of each client."""
        return self.inner.separable

    @property
    def is_smooth(self) -> bool:
        """See `Protocol.is_smooth`."""
        return self.inner.is_smooth

    def update(self, gradient: GradientOf, weights: Weights, images: Tensor, labels: Tensor) -> Gradients:
        """See `Protocol.update`."""
        return self.inner.update(gradient, weights, images, labels)

    def server(self, asked: Server) -> Server:
        """See `Protocol.server`."""
        return self.inner.server(asked)

    def view(self, updates: Sequence[Gradients], sent_bytes: int, generator: torch.Generator) -> View:
        """See `Protocol.view`: the mean that the sum stands for; an entry costs `modulus` bits."""
        ring, encoding = self._ring(), self.encoding
        largest = max(float(each.abs().max()) for update in updates for each in update.values())
        try:
            check_modulus(encoding, ring, len(updates), largest)
        except SettingError as error:
            raise ContractError(f"protocol {self}: {error}") from error
        mean = {}
        for name, like in updates[0].items():
            words = torch.stack([encoding.encode(update[name], generator) for update in updates])
            mean[name] = (encoding.decode(ring.sum(words)) / len(updates)).to(like.dtype)
        size = sum(each.numel() for each in mean.values()) * self.modulus // 8
        clips = self.bits and largest > self.clip
        return View(mean, size, inf if clips else encoding.step)
