"""What an optimiser of many independent functions is to the engine."""

from typing import Protocol

from torch import Tensor


class Stepper(Protocol):
    """The state of B runs, B being the number of slots. Every tensor that it holds has B rows.

    Use: `restart` the runs where they begin; then, again and again, evaluate every function at its row
    of `x`, and call `arrive` and `depart` with what came out.
    """

    x: Tensor  # (B, size): where the functions are to be evaluated
    value: Tensor  # (B,): of the functions where the runs stand, once they have arrived

    @property
    def at(self) -> Tensor:
        """(B, size): where the runs stand, once they have arrived."""

    def restart(self, slot: int, x: Tensor) -> None:
        """Forget the run in that slot; a new one begins at x (size,)."""

    def resume(self, slot: int, x: Tensor) -> None:
        """The run in that slot stands at x (size,), and from now on its function is another, much like it."""

    def arrive(self, loss: Tensor, gradient: Tensor) -> Tensor:
        """Take note of the functions' values (B,) and gradients (B, size) at `x`.

        Returns:
            (B,) of bool: which runs have ended an outer step here; a fresh run has ended step 0.
        """

    def depart(self, loss: Tensor, gradient: Tensor) -> None:
        """Choose the next `x`, from what `arrive` was told."""

    def stuck(self, slots: list[int], since: Tensor) -> Tensor:
        """Which of the runs in these slots will never move again (k,).

        Args:
            slots: k of them, whose runs have ended an outer step here.
            since: (k, size), where they stood at the end of the last one.
        """
