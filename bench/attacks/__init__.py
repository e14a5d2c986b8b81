"""Attacks, one per file, and their registry."""

from leakbench.bench.attacks.adaptive import Adaptive
from leakbench.bench.attacks.bag import Bag
from leakbench.bench.attacks.base import (
    Attack,
    Case,
    Found,
    Knows,
    NotApplicableError,
    Resources,
    Start,
    Status,
)
from leakbench.bench.attacks.cosine import Cosine
from leakbench.bench.attacks.defended import Defended
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.attacks.dlg_text import DLGText
from leakbench.bench.attacks.handed_in import HandedIn, HandedInTexts
from leakbench.bench.attacks.hybrid import Hybrid
from leakbench.bench.attacks.idlg import IDLG
from leakbench.bench.attacks.likeliest import Likeliest
from leakbench.bench.attacks.linear import Linear
from leakbench.bench.attacks.recursive import Recursive
from leakbench.bench.attacks.rows import Rows
from leakbench.bench.attacks.span import Span
from leakbench.bench.attacks.suites import SUITES, attacks_of
from leakbench.bench.attacks.tag import TAG
from leakbench.bench.attacks.unrolled import Unrolled
from leakbench.bench.modalities import Spec
from leakbench.core.registry import Registry

__all__ = [
    "ATTACKS", "SUITES", "Attack", "Case", "Found", "Knows", "NotApplicableError", "Resources", "Spec",
    "Start", "Status", "attacks_of",
]  # fmt: skip

OF_IMAGES = (DLG, IDLG, Cosine, Adaptive, Linear, Recursive, Hybrid, Unrolled, Defended, HandedIn)
OF_TEXTS = (Rows, Span, Bag, Likeliest, DLGText, TAG, HandedInTexts)
ATTACKS: Registry[Attack] = Registry("attack", Attack, (*OF_IMAGES, *OF_TEXTS))
