"""Attacks, one a file, and the registry of them."""

from bench.attacks.base import Attack, Case, Reconstruction, Resources, Start, Status
from bench.attacks.dlg import DLG
from defenses.registry import Registry

__all__ = ["ATTACKS", "Attack", "Case", "Reconstruction", "Resources", "Start", "Status"]

ATTACKS: Registry[Attack] = Registry(
    "attack",
    Attack,  # type: ignore[type-abstract]
    [DLG],
)
