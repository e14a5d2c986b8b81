"""Rows of shared inference: one per network, engine and precision, and one per confused pair of classes."""

from collections.abc import Iterator
from math import nan
from typing import Any

import torch
from torch import Tensor

from leakbench.bench.private.answers import Answers
from leakbench.bench.private.subject import Subject
from leakbench.bench.private.view import ViewTest
from leakbench.bench.sharing import FixedPoint


def row(subject: Subject, engine: str, encoding: FixedPoint, answers: Answers) -> dict[str, Any]:
    """What came out, compared with the clear.

    Seconds and bytes are of an image; `setup_bytes` are those before the first one; `rounds` are those in
    which parties wait for each other, of a batch. `off_by_one` is the share of truncations that are off in
    the last place, `wrong` the number of those that are off by more, `expected_wrong` what theory says.
    """
    count, plain, own = len(subject.labels), subject.plain.argmax(1), answers.scores.argmax(1)
    seen = answers.truncations
    return {
        "model": subject.model, "engine": engine, "precision": encoding.text,
        "base": encoding.base, "digits": encoding.digits, "images": count,
        "plain_accuracy": _share(plain == subject.labels), "accuracy": _share(own == subject.labels),
        "agreement": _share(own == plain),
        "logit_error": float((answers.scores - subject.plain).abs().max()),
        "median_logit_error": float((answers.scores - subject.plain).abs().median()),
        "seconds": answers.seconds / count,
        "party_bytes": answers.party_bytes / count, "dealer_bytes": answers.dealer_bytes / count,
        "setup_bytes": answers.setup_bytes, "rounds": answers.rounds,
        "truncations": seen.count if seen else nan,
        "off_by_one": seen.off_by_one / max(seen.count, 1) if seen else nan,
        "wrong": seen.wrong if seen else nan, "expected_wrong": seen.expected_wrong if seen else nan,
        "torch_version": torch.__version__,
    }  # fmt: skip


def confusions(
    subject: Subject, engine: str, encoding: FixedPoint, answers: Answers
) -> Iterator[dict[str, Any]]:
    """How many images are `plain` in the clear and `shared` on shares, for each pair that occurs."""
    pairs = torch.stack([subject.plain.argmax(1), answers.scores.argmax(1)], 1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    for (plain, shared), count in zip(found.tolist(), counts.tolist(), strict=True):
        yield {
            "model": subject.model, "engine": engine, "precision": encoding.text,
            "plain": plain, "shared": shared, "images": count,
        }  # fmt: skip


def view_row(model: str, found: ViewTest) -> dict[str, Any]:
    """What was found in a party's view, and what would have been."""
    return {
        "model": model, "party": found.party, "clean": found.is_clean,
        "words": found.words.words, "largest_z": found.words.largest, "z_threshold": found.words.threshold,
        "bias_found_from": found.words.bias(),
        "bits": found.bits.words if found.bits else 0, "bits_z": found.bits.largest if found.bits else nan,
        "correlation": found.correlation.value, "correlation_threshold": found.correlation.threshold,
        "correlation_found_from": found.correlation.found_from,
        "guessed": found.guesses.right, "chance": found.guesses.chance,
        "guessed_threshold": found.guesses.threshold, "guessed_images": found.guesses.images,
    }  # fmt: skip


def _share(which: Tensor) -> float:
    return float(which.double().mean())
