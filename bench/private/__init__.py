"""Shared inference: a secret-shared image classified by a secret-shared network."""
