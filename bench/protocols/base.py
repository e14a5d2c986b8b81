"""What a protocol is to a sweep: how many images stand behind what a client shares, and how often."""

from collections.abc import Iterator
from dataclasses import dataclass

from leakbench.core.configured import Configured

MOST = 10**4


@dataclass(frozen=True)
class Protocol(Configured):
    """What a client shares. It is the victim's: every attack on it sees the same."""

    batch_size: int = 1  # images that a gradient is the mean of: the trial's, and those after it
    rounds: int = 1  # how often the gradient of the same batch is shared, under fresh draws of the defense

    def problems(self) -> Iterator[tuple[str, str]]:
        """Counts of at least 1."""
        for setting in ("batch_size", "rounds"):
            count = getattr(self, setting)
            if count < 1:
                yield setting, f"expected a whole number >= 1, got {count}"
            elif count > MOST:
                yield setting, f"expected at most {MOST}, got {count}"
