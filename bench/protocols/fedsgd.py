"""Federated SGD (McMahan et al. 2017, section 2): a client shares the gradient of one batch."""

from dataclasses import dataclass
from typing import ClassVar

from leakbench.bench.protocols.base import Protocol
from leakbench.core import citations


@dataclass(frozen=True)
class FedSGD(Protocol):
    """The gradient of the mean loss of one batch, at the server's weights.

    After several rounds with the same weights, the server averages the gradients it received, which
    reduces independent noise of variance v to v / rounds.
    """

    name: ClassVar[str] = "fedsgd"
    citation: ClassVar[str] = citations.FEDSGD
