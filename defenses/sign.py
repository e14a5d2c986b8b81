"""Sign compression: Bernstein et al. 2018 (signSGD) and Karimireddy et al. 2019 (EF-signSGD)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar, Literal

import torch

from leakbench.core.citations import EF_SIGN, SIGN_SGD
from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.traffic import bitmap_bytes


@dataclass(frozen=True)
class Sign(Defense):
    """The sign of each entry, times the mean magnitude of its tensor with `scale: mean` (Karimireddy et al.).

    With `scale: none` it is the sign alone (Bernstein et al.). Trainings move along the mean of what clients
    share, so they do not take the majority vote, the sign of the sum of signs. The sign of 0 is 0.
    `error_feedback` with `scale: mean` is EF-signSGD, tensor by tensor.
    """

    citation: ClassVar[str] = f"{SIGN_SGD}\n\n{EF_SIGN}"
    name: ClassVar[str] = "sign"
    grid: ClassVar[dict[str, list[Any]]] = {"scale": ["mean", "none"]}

    scale: Literal["mean", "none"] = "mean"
    error_feedback: bool = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Error feedback adds what is missing, which needs the gradient's scale."""
        if self.error_feedback and self.scale == "none":
            yield "error_feedback", "expected false with scale=none, got true"

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """See the class."""
        scales = {name: each.abs().mean() if self.scale == "mean" else 1 for name, each in gradients.items()}
        return {name: each.sign() * scales[name] for name, each in gradients.items()}

    def account(self, shared: Gradients) -> Account | None:
        """See `Defense.account`: magnitudes have a known sum, n times their mean m, so none is above that.

        Their mean square is not known: m^2 pi / 2 of normally distributed entries, of which m^2 remains.
        Signs alone do not bound a magnitude.
        """
        if self.scale == "none":
            return None
        most = {name: each.abs().max() + 0 * each for name, each in shared.items()}
        return Account(
            rounding={name: (each.numel() - 1) * each for name, each in most.items()},
            mean_squares={name: (pi / 2 - 1) * float(each.max()) ** 2 for name, each in most.items()},
        )

    def sent_bytes(self, shared: Gradients) -> int:
        """One bit per entry, and one more where some are 0; one float32 per tensor for the scale."""
        bits = sum(bitmap_bytes(each.numel()) * (2 - bool(each.all())) for each in shared.values())
        return bits + (4 * len(shared) if self.scale == "mean" else 0)
