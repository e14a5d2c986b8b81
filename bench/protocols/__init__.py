"""Protocols: what a client computes from its images and shares in each round."""

from leakbench.bench.protocols.base import Protocol
from leakbench.bench.protocols.fedavg import FedAvg
from leakbench.bench.protocols.fedsgd import FedSGD
from leakbench.bench.protocols.secure_sum import SecureSum
from leakbench.core.registry import Registry

__all__ = ["PROTOCOLS", "FedAvg", "FedSGD", "Protocol", "SecureSum"]

PROTOCOLS = Registry("protocol", Protocol, [FedSGD, FedAvg, SecureSum])
