"""The base class of protocols: how many images a gradient is computed from, and how often it is shared."""

from collections.abc import Iterator
from dataclasses import dataclass

from leakbench.core.configured import Configured

MOST = 10**4


@dataclass(frozen=True)
class Protocol(Configured):
    """What a client shares. It belongs to the victim, so every attack on a victim sees the same."""

    batch_size: int = 1  # images that the gradient is averaged over: the trial's image and the next ones
    rounds: int = 1  # how often the gradient of the same batch is shared, with new draws of the defense

    def problems(self) -> Iterator[tuple[str, str]]:
        """Counts must be at least 1."""
        for setting in ("batch_size", "rounds"):
            count = getattr(self, setting)
            if count < 1:
                yield setting, f"expected a whole number >= 1, got {count}"
            elif count > MOST:
                yield setting, f"expected at most {MOST}, got {count}"
