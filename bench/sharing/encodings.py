"""How real numbers become ring elements, and back: what is lost of a gradient or an image on the way."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from leakbench.core.configured import Configured, SettingError
from leakbench.core.ranges import Positive, Range

LARGEST = 2.0**63  # that an int64 does not hold any more


@dataclass(frozen=True)
class Encoding(Configured, ABC):
    """Real numbers as multiples of a step, so that the sum of encodings encodes the sum."""

    @property
    @abstractmethod
    def step(self) -> float:
        """What a 1 stands for. Encoding a number changes it by less than that."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The precision as tables show it, such as `10^-3`."""

    @abstractmethod
    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Whole numbers, int64, of the same shape.

        Args:
            values: floating-point numbers.
            generator: of the draws, where it rounds by chance.

        Raises:
            SettingError: values that are not finite or that an int64 does not hold, or no generator where
                one is needed.
        """

    @abstractmethod
    def largest(self, magnitude: float) -> int:
        """The largest magnitude that values up to `magnitude` are encoded as."""

    def decode(self, words: Tensor) -> Tensor:
        """The numbers, float64, that an encoding or a sum of encodings stands for."""
        return words.double() * self.step


@dataclass(frozen=True)
class FixedPoint(Encoding):
    """Fixed precision as in PySyft 0.2 (Ryffel et al. 2018): `(x * base**digits).long()`, which truncates.

    Base 10 and 3 digits are its defaults; base 2 makes the digits bits. The product is taken in the dtype of
    the values, as there: beyond 2^24 steps float32 has no digits left for more.
    """

    name: ClassVar[str] = "fixed"

    base: Annotated[int, Range(2)] = 10
    digits: int = 3

    def problems(self) -> Iterator[tuple[str, str]]:
        """Digits that an int64 has room for."""
        if not 1 <= self.digits < 64 or self.scale >= LARGEST:
            yield "digits", f"expected a whole number >= 1 with {self.base}^digits < 2^63, got {self.digits}"

    @property
    def scale(self) -> int:
        """How many steps make 1."""
        return int(self.base**self.digits)

    @property
    def step(self) -> float:
        """See `Encoding.step`."""
        return 1 / self.scale

    @property
    def text(self) -> str:
        """See `Encoding.text`."""
        return f"{self.base}^-{self.digits}"

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Encoding.encode`; nothing is drawn."""
        scaled = values * self.scale
        if not bool((scaled.abs() < LARGEST).all()):  # also of NaN
            worst = float(values.abs().max())
            text = f"expected finite numbers below {LARGEST / self.scale:.3g} at {self.text}, got {worst:.3g}"
            raise SettingError([("values", text)])
        return scaled.long()

    def largest(self, magnitude: float) -> int:
        """See `Encoding.largest`; of values in float32, which may be rounded up, as in float64."""
        rounded = float(torch.tensor(magnitude) * self.scale)
        return int(max(magnitude * self.scale, rounded if rounded < inf else 0.0))

    def decode(self, words: Tensor) -> Tensor:
        """See `Encoding.decode`."""
        return words.double() / self.scale  # 0.001 is no float64: times the step is off in the last digit


@dataclass(frozen=True)
class Levels(Encoding):
    """Clipped and rounded by chance to equal steps, as Flower's SecAgg+ does.

    A value v in [-clip, clip] lies between two levels and becomes the upper one with the probability of how
    far it is on the way to it: the mean is v. There are `levels` steps from -clip to clip. Flower counts them
    from -clip on, this class from 0, so that sums need no correction by the number of clients.
    """

    name: ClassVar[str] = "levels"

    clip: Positive = 8.0
    levels: int = 1 << 22

    def problems(self) -> Iterator[tuple[str, str]]:
        """Levels of which 0 is one."""
        if self.levels < 2 or self.levels % 2 or self.levels > 1 << 52:
            yield "levels", f"expected an even number in 2..2^52, got {self.levels}"

    @property
    def step(self) -> float:
        """See `Encoding.step`."""
        return 2 * self.clip / self.levels

    @property
    def text(self) -> str:
        """See `Encoding.text`."""
        return f"{self.levels} levels in ±{self.clip:g}"

    def encode(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `Encoding.encode`."""
        if generator is None:
            raise SettingError([("generator", "expected one to round with, got none")])
        if bool(values.isnan().any()):
            raise SettingError([("values", "expected numbers, found NaN")])
        steps = values.double().clamp(-self.clip, self.clip) / self.step
        below = steps.floor()
        chance = torch.rand(steps.shape, generator=generator, dtype=torch.float64)
        return (below + (chance < steps - below)).long()

    def largest(self, magnitude: float) -> int:
        """See `Encoding.largest`."""
        return min(self.levels // 2, int(magnitude / self.step) + 1)
