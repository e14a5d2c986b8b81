"""Attacks, one a file, and the registry of them."""

from bench.attacks.adaptive import Adaptive
from bench.attacks.base import (
    Attack,
    Case,
    Found,
    Knows,
    NotApplicableError,
    Resources,
    Spec,
    Start,
    Status,
)
from bench.attacks.cosine import Cosine
from bench.attacks.dlg import DLG
from bench.attacks.hybrid import Hybrid
from bench.attacks.idlg import IDLG
from bench.attacks.linear import Linear
from bench.attacks.recursive import Recursive
from bench.attacks.suites import SUITES
from defenses.registry import Registry

__all__ = [
    "ATTACKS", "SUITES", "Attack", "Case", "Found", "Knows", "NotApplicableError", "Resources", "Spec",
    "Start", "Status",
]  # fmt: skip

ATTACKS = Registry("attack", Attack, [DLG, IDLG, Cosine, Adaptive, Linear, Recursive, Hybrid])
