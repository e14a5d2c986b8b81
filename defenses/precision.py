"""Half precision: Zhu et al. 2019, section 5.1. The gradient is rounded to 16 bits and back."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leakbench.core.citations import DLG
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense


@dataclass(frozen=True)
class HalfPrecision(Defense):
    """Every entry rounded to a 16-bit format and back."""

    citation: ClassVar[str] = DLG
    family: ClassVar[str] = "half precision"
    dtype: ClassVar[torch.dtype]

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """Each entry rounded to the nearest 16-bit number, in the gradient's dtype."""
        return {name: gradient.to(self.dtype).to(gradient.dtype) for name, gradient in gradients.items()}

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: rounding moves an entry by at most half the gap between two numbers."""
        about = torch.finfo(self.dtype)
        least = about.smallest_normal * about.eps  # the gap below the smallest normal number
        return Account(
            rounding={name: (each.abs() * about.eps).clamp(min=least) / 2 for name, each in shared.items()}
        )

    def sent_bytes(self, shared: Gradients) -> int:
        """Two bytes per entry."""
        return sum(gradient.numel() * self.dtype.itemsize for gradient in shared.values())


@dataclass(frozen=True)
class Float16(HalfPrecision):
    """IEEE half precision (IEEE-fp16): 10 fraction bits; it overflows above 65,504."""

    name: ClassVar[str] = "float16"
    dtype: ClassVar[torch.dtype] = torch.float16


@dataclass(frozen=True)
class BFloat16(HalfPrecision):
    """bfloat16 (B-fp16): 7 fraction bits, the range of float32."""

    name: ClassVar[str] = "bfloat16"
    dtype: ClassVar[torch.dtype] = torch.bfloat16
