"""Federated SGD (McMahan et al. 2017, section 2): a client shares the gradient of one batch."""

from dataclasses import dataclass
from typing import ClassVar

from leakbench.bench.protocols.base import Protocol
from leakbench.core import citations


@dataclass(frozen=True)
class FedSGD(Protocol):
    """The gradient of the mean loss of one batch, at the server's weights.

    In several rounds at the same weights the server takes the mean of what it got: independent noise of
    variance v is left with v / rounds.
    """

    name: ClassVar[str] = "fedsgd"
    citation: ClassVar[str] = citations.FEDSGD
