"""Networks and images that are classified on shares, and what comes out in the clear."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leakbench.bench.private.room import overflow
from leakbench.bench.private.steps import Step, steps_of
from leakbench.bench.sharing import FixedPoint
from leakbench.core.errors import UserError


@dataclass(frozen=True)
class Subject:
    """A network with images whose scores in the clear are known."""

    model: str
    steps: Sequence[Step]
    images: Tensor  # (N, C, H, W), float32
    labels: Tensor  # (N,)
    plain: Tensor  # (N, classes), float32: the scores in the clear


def subject_of(model: str, network: nn.Module, images: Tensor, labels: Tensor) -> Subject:
    """A network and images.

    Raises:
        UserError: a layer that cannot be shared.
    """
    try:
        steps = steps_of(network)
    except UserError as error:
        raise UserError(*(f"{model}: {problem}" for problem in error.problems)) from error
    with torch.no_grad():
        return Subject(model, steps, images, labels, network(images))


def check_room(subject: Subject, encodings: Sequence[FixedPoint]) -> None:
    """Whether 64 bits do for these images at these precisions.

    Raises:
        UserError: with a line for each precision that is too high.
    """
    found = {encoding: overflow(subject.steps, subject.images, encoding) for encoding in encodings}
    if any(found.values()):
        raise UserError(*(f"{subject.model}: {text}" for text in found.values() if text))
