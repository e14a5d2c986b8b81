"""Suites: named lists of attacks that together give a verdict worth quoting.

A victim is attacked in this order until one attack succeeds; those that leak most per second come first.
"""

from collections.abc import Sequence

from leakbench.bench.modalities import IMAGES, TEXTS, Modality
from leakbench.bench.protocols.base import Protocol

SUITES = {
    "standard": ("linear", "recursive", "adaptive", "hybrid", "cosine", "cosine(optimizer=adam)"),
}
OF_TEXTS = {"standard": ("rows", "span", "bag", "likeliest", "dlg-text", "tag")}
UPDATES = ("unrolled",)  # joins a suite where a protocol has several local steps
SUMS = ("defended",)  # joins a suite where a protocol sums several clients


def attacks_of(suite: str, protocols: Sequence[Protocol], modality: Modality = IMAGES) -> tuple[str, ...]:
    """The attacks of a suite on clients with these protocols and such examples.

    Raises:
        KeyError: an unknown suite.
    """
    if modality is TEXTS:
        return OF_TEXTS[suite]
    updates = UPDATES if any(each.steps > 1 for each in protocols) else ()
    return (*SUITES[suite], *updates, *(SUMS if any(each.seen > 1 for each in protocols) else ()))
