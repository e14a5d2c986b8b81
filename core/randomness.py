"""Randomness is addressed, not consumed: each draw has a generator of its own."""

import hashlib
import json

import torch


def seed_for(*purpose: str | int) -> int:
    """The seed of the draw that `purpose` names: 63 bits of its SHA-256."""
    digest = hashlib.sha256(json.dumps(purpose).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(*purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose, such as ("weights", "lenet", 0).

    Equal purposes give equal draws, whatever else was drawn before, and on whatever device the
    attack then runs.
    """
    return torch.Generator().manual_seed(seed_for(*purpose))
