"""Quantisation to 8 bits: the INT8 column of Zhu et al. 2019, Table 2."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from leakbench.core.citations import DLG
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense

LEVELS = 127  # symmetric: -127..127, so that zero stays zero


@dataclass(frozen=True)
class Int8(Defense):
    """Each tensor is sent as round(g / s) in -127..127, with s = max|g| / 127, and scaled back.

    The paper does not say which 8-bit scheme it used; this is the plain symmetric one.
    """

    citation: ClassVar[str] = DLG
    name: ClassVar[str] = "int8"

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """Each gradient rounded to its own grid of 255 values."""
        return {name: self._quantize(gradient) for name, gradient in gradients.items()}

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: rounding moves an entry by at most half a step of its tensor's grid."""
        return Account(
            rounding={
                name: (each.abs().max() / LEVELS / 2).expand_as(each).clone() for name, each in shared.items()
            }
        )

    def sent_bytes(self, shared: Gradients) -> int:
        """One byte per entry, and one float32 per tensor for the step."""
        return sum(gradient.numel() + 4 for gradient in shared.values())

    def _quantize(self, gradient: Tensor) -> Tensor:
        scale = gradient.abs().max() / LEVELS
        if scale == 0:
            return gradient.clone()
        return (gradient / scale).round() * scale
