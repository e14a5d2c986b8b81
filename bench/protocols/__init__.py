"""What one round of a federation makes of a client's images."""

from bench.protocols.base import Protocol
from bench.protocols.fedsgd import FedSGD
from defenses.registry import Registry

__all__ = ["PROTOCOLS", "FedSGD", "Protocol"]

PROTOCOLS = Registry("protocol", Protocol, [FedSGD])
