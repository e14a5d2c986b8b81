"""Addressed randomness: each draw has its own generator, seeded by a hash of its purpose."""

import hashlib
import json

import torch


def seed_for(*purpose: str | int) -> int:
    """The seed for the draw named by `purpose`: 63 bits of its SHA-256."""
    digest = hashlib.sha256(json.dumps(purpose).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(*purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose, such as ("weights", "lenet", 0).

    Equal purposes give equal draws, regardless of what was drawn before and of the device that the
    attack runs on.
    """
    return torch.Generator().manual_seed(seed_for(*purpose))
