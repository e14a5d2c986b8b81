"""Error feedback: a client adds what its earlier updates left out to the next one.

Stich, Cordonnier and Jaggi 2018, "Sparsified SGD with Memory", algorithm 1. The paper's memory holds steps,
rate times gradient; this one holds gradients, which is the same where the server's rate does not change.
"""

from torch import Tensor


class Memory:
    """What one client has left out so far: the sum of its updates minus the sum of what it shared."""

    def __init__(self) -> None:
        self._left_out: dict[str, Tensor] = {}  # zero before the first round

    def corrected(self, update: dict[str, Tensor]) -> dict[str, Tensor]:
        """The update {name: tensor} plus all that is missing."""
        if not self._left_out:
            return update
        return {name: each + self._left_out[name] for name, each in update.items()}

    def keep(self, corrected: dict[str, Tensor], shared: dict[str, Tensor]) -> None:
        """Remember what was not shared of the corrected update."""
        self._left_out = {name: each - shared[name] for name, each in corrected.items()}
