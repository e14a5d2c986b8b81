"""The gradient as it is."""

from dataclasses import dataclass
from typing import ClassVar

from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense


@dataclass(frozen=True)
class NoDefense(Defense):
    """No change to the gradient: the baseline that every defense is compared with."""

    name: ClassVar[str] = "none"

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient is unchanged."""
        return Account()
