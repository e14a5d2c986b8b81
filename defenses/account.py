"""What a defense says of the gradients that a client shared under it."""

from dataclasses import dataclass

from torch import Tensor

Gradients = dict[str, Tensor]  # {parameter name: gradient of that parameter's shape}


class ContractError(ValueError):
    """A defense or an attack broke its contract, or its input was unusable; the text is one sentence."""


@dataclass(frozen=True)
class Mean:
    """What a server's gradients are the mean of."""

    rounds: int = 1  # how often each client shared its update
    examples: int = 1  # the number by which the noisy sum of `Defense.apply_each` was divided
    clients: int = 1  # whose updates were averaged
    rounding: float = 0.0  # the most that a protocol moved an entry afterwards


SINGLE = Mean()


@dataclass(frozen=True)
class Account:
    """What anybody who knows a defense's settings can infer from the shared gradient."""

    kept: Gradients | None = None  # bool: which entries carry information on the gradient; None: all
    # of the independent, zero-mean noise on every kept entry; by name where tensors differ in it
    variance: float | dict[str, float] = 0.0
    rounding: Gradients | None = None  # upper bound of each entry's rounding error; None: no rounding
    # by name, an estimate of the mean square of these errors; None: they are spread evenly within the bounds
    mean_squares: dict[str, float] | None = None
    scaled: bool = False  # whether the gradient was multiplied by an unknown positive factor

    def variance_in(self, name: str) -> float:
        """The variance of the noise on the kept entries of the tensor of that name."""
        return self.variance[name] if isinstance(self.variance, dict) else self.variance
