"""The interface between the engine and an optimiser of many independent functions."""

from typing import Protocol

from torch import Tensor


class Stepper(Protocol):
    """The state of B runs, one per slot. Every tensor attribute has B rows.

    To use it, `restart` each run at its start; then repeatedly evaluate every function at its row of `x`,
    and pass the results to `arrive` and `depart`.
    """

    x: Tensor  # (B, size): where to evaluate the functions next
    value: Tensor  # (B,): the functions' values at `at`, after `arrive`

    @property
    def at(self) -> Tensor:
        """The current points of the runs (B, size), after `arrive`."""

    def restart(self, slot: int, x: Tensor) -> None:
        """Discard the run in that slot and start a new one at x (size,)."""

    def resume(self, slot: int, x: Tensor) -> None:
        """Continue the run in that slot from x (size,), with a similar function from now on."""

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Record the functions' values (B,) and gradients (B, size) at `x`.

        Returns:
            (B,), bool: which runs have completed an outer step here; a new run has completed step 0.
        """

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """Choose the next `x`, from the arguments of the last `arrive`."""

    def stuck(self, slots: list[int], since: Tensor) -> Tensor:
        """Which of the runs in these slots will never move again, (k,), bool.

        Args:
            slots: the k slots whose runs have completed an outer step here.
            since: (k, size), their points at the end of the previous outer step.
        """
