"""Attacks, one a file, and the registry of them."""

from bench.attacks.base import Attack, Case, Found, NotApplicableError, Resources, Spec, Start, Status
from bench.attacks.dlg import DLG
from defenses.registry import Registry

__all__ = [
    "ATTACKS", "Attack", "Case", "Found", "NotApplicableError", "Resources", "Spec", "Start", "Status",
]  # fmt: skip

ATTACKS = Registry("attack", Attack, [DLG])
