"""Suites: named lists of attacks that together give a verdict worth quoting.

A victim is attacked in this order until one attack succeeds; those that leak most per second come first.
"""

SUITES = {
    "standard": ("linear", "recursive", "adaptive", "hybrid", "cosine", "cosine(optimizer=adam)"),
}
