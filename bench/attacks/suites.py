"""Named lists of attacks: what a verdict is worth quoting for.

In the order in which a victim meets them, until one has leaked it: what leaks most in a second comes first.
"""

SUITES = {
    "standard": ("linear", "recursive", "adaptive", "hybrid", "cosine", "cosine(optimizer=adam)"),
}
