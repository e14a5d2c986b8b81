"""Named lists of attacks: what a verdict is worth quoting for."""

SUITES = {
    "standard": ("cosine", "adaptive", "cosine(optimizer=adam)"),
}
