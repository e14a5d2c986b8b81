"""What a defense is: a change to the gradient before it is shared."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.configured import Configured

Gradients = dict[str, Tensor]  # {parameter name: gradient of that parameter's shape}


class ContractError(ValueError):
    """A defense broke its contract, or was given what none can work on. The text is one sentence."""


@dataclass(frozen=True)
class Defense(Configured, ABC):
    """A change to the gradient that a client makes before it shares it.

    An author writes one method, `apply`, on a frozen dataclass whose fields are the settings; this
    class checks what goes in and what comes out.
    """

    family: ClassVar[str] = ""  # curves of one family share a figure; the name where not given

    @property
    def strength(self) -> float | None:
        """What orders the members of a family from weak to strong; None where there is no such number."""
        return None

    @abstractmethod
    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients to share, as new tensors: same names, shapes and dtypes.

        Args:
            gradients: {parameter name: tensor}, on the CPU. Must not be changed in place.
            generator: a CPU generator, the only source of randomness to use.
        """

    def __call__(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """`apply`, with its contract checked.

        Raises:
            ContractError: a gradient that is not finite, or an `apply` that changed its input or
                returned other names, shapes, dtypes or values that are not finite.
        """
        for name, gradient in gradients.items():
            if not is_finite(gradient):
                raise ContractError(f"gradient {name!r} holds NaN or infinity before any defense")
        before = {name: gradient.clone() for name, gradient in gradients.items()}
        shared = self.apply(gradients, generator)
        for problem in self._broken_promises(before, gradients, shared):
            raise ContractError(f"defense {self}: {problem}")
        return shared

    def _broken_promises(self, before: Gradients, after: Gradients, shared: Gradients) -> list[str]:
        if not isinstance(shared, dict) or list(shared) != list(before):
            got = str(list(shared)) if isinstance(shared, dict) else type(shared).__name__
            return [f"expected gradients named {list(before)}, got {got}"]
        problems = []
        for name, original in before.items():
            given = shared[name]
            if not torch.equal(original, after[name]):
                problems.append(f"changed gradient {name!r} in place; return a new tensor")
            elif not isinstance(given, Tensor) or given.shape != original.shape:
                found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
                problems.append(f"gradient {name!r}: expected shape {tuple(original.shape)}, got {found}")
            elif given.dtype != original.dtype:
                problems.append(f"gradient {name!r}: expected {original.dtype}, got {given.dtype}")
            elif not is_finite(given):
                problems.append(f"gradient {name!r}: holds NaN or infinity after it")
        return problems


def is_finite(tensor: Tensor) -> bool:
    """Whether there is neither NaN nor infinity in it; NaN is its own maximum."""
    return tensor.numel() == 0 or math.isfinite(tensor.abs().max())


@dataclass(frozen=True)
class NoDefense(Defense):
    """The gradient as it is: the baseline that every defense is judged against."""

    name: ClassVar[str] = "none"

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The same gradients."""
        return {name: gradient.clone() for name, gradient in gradients.items()}
