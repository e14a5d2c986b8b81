"""TernGrad: Wen et al. 2017. Every entry becomes -s, 0 or s, at random and without bias."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import TERNGRAD
from leakbench.core.ranges import NonNegative
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.rounding import mean_square
from leakbench.defenses.traffic import bitmap_bytes


@dataclass(frozen=True)
class TernGrad(Defense):
    """s * sign(g) with probability |g| / s, else 0; s is the largest magnitude of the tensor (eq. 1 to 3).

    Before that, entries are clipped to `clip` standard deviations of their tensor (section 4); 0 does not
    clip. A tensor whose entries are all equal has no deviation and is not clipped. Clients do not agree on
    the largest s among them (scaler sharing): that is left out.
    """

    citation: ClassVar[str] = TERNGRAD
    name: ClassVar[str] = "terngrad"
    grid: ClassVar[dict[str, list[Any]]] = {"clip": [2.5, 0.0]}

    clip: NonNegative = 2.5

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """Each gradient made ternary."""
        return {name: self._ternary(gradient, generator) for name, gradient in gradients.items()}

    def account(self, shared: Gradients) -> Account | None:
        """See `Defense.account`."""
        return self.account_of_rounds(shared, 1)

    def account_of_rounds(self, shared: Gradients, rounds: int) -> Account | None:
        """An entry moves by at most s, which the largest always has. Nothing bounds what clipping cut off."""
        if self.clip:
            return None
        most = {name: each.abs().max() + 0 * each for name, each in shared.items()}
        squares = {name: mean_square(each, float(each.abs().max()), rounds) for name, each in shared.items()}
        return Account(rounding=most, mean_squares=squares)

    def sent_bytes(self, shared: Gradients) -> int:
        """Two bits per entry, as the paper counts, and one float32 per tensor for s."""
        return sum(bitmap_bytes(2 * each.numel()) + 4 for each in shared.values())

    def _ternary(self, gradient: Tensor, generator: torch.Generator) -> Tensor:
        most = self.clip * float(gradient.double().std(correction=0))
        clipped = gradient.clamp(-most, most) if most else gradient
        scale = clipped.abs().max()
        if scale == 0:
            return gradient.clone()
        chance = clipped.abs() / scale
        drawn = torch.rand(gradient.shape, dtype=gradient.dtype, generator=generator) < chance
        return scale * clipped.sign() * drawn
