"""Networks and images that are classified on shares, and what comes out in the clear."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leakbench.bench.datasets import Images
from leakbench.bench.models import Model
from leakbench.bench.private.room import overflow
from leakbench.bench.private.steps import Step, steps_of
from leakbench.bench.sharing import FixedPoint
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign


@dataclass(frozen=True)
class Subject:
    """A network with images whose scores in the clear are known."""

    model: str
    steps: Sequence[Step]
    images: Tensor  # (N, C, H, W), float32
    labels: Tensor  # (N,)
    plain: Tensor  # (N, classes), float32: the scores in the clear


def subject_of(name: str, model: Model, source: Images, indices: Sequence[int]) -> Subject:
    """A network and images.

    Args:
        name: of the network, for rows and messages.
        model: with its weights.
        source: the dataset.
        indices: of the images.

    Raises:
        UserError: no network for such images, or a layer that cannot be shared.
        SettingError: a checkpoint that does not fit.
    """
    images, labels = source.batch(indices)
    try:
        with foreign(SettingError, UserError, SystemExit), torch.no_grad():
            network = model.build(source.shape, source.classes, seed=0)
            steps = steps_of(network)
            plain = network(images)
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from error
    except ForeignError as error:
        size = "x".join(map(str, source.shape))
        raise UserError(f"{name}: expected a network for images of {size}, got {error.short}") from error
    wanted = (len(indices), source.classes)
    if tuple(plain.shape) != wanted:
        raise UserError(f"{name}: expected class scores of shape {wanted}, got {tuple(plain.shape)}")
    if all(step.weight is None for step in steps):
        raise UserError(f"{name}: expected a layer with weights, found none")
    return Subject(name, steps, images, labels, plain)


def check_room(subject: Subject, encodings: Sequence[FixedPoint]) -> None:
    """Whether 64 bits do for these images at these precisions.

    Raises:
        UserError: with a line for each precision that is too high.
    """
    found = {encoding: overflow(subject.steps, subject.images, encoding) for encoding in encodings}
    if any(found.values()):
        raise UserError(*(f"{subject.model}: {text}" for text in found.values() if text))
