"""Whether 64 bits have room for what a network computes at a precision."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from leakbench.bench.private.steps import Kind, Step, outputs_of
from leakbench.bench.sharing import FixedPoint

HALF = 2.0**63
TINY = 1e-30  # for a layer of zeros


def overflow(steps: Sequence[Step], images: Tensor, encoding: FixedPoint) -> str:
    """Which layer's values wrap around at 2^63 before they are truncated; empty where none do.

    Args:
        steps: of the network.
        images: float32, those that it will be used on: no others are promised anything.
        encoding: of images and weights.
    """
    # the scale that each has room for
    rooms = [
        ((HALF / max(largest, TINY)) ** (1 / power), name, largest, power)
        for name, largest, power in _reaches(steps, images)
    ]
    room, name, largest, power = min(rooms)
    if encoding.scale < room:
        return ""
    fit = max((digits for digits in range(encoding.digits) if encoding.base**digits < room), default=0)
    reached = f"{largest:.3g} x {encoding.base}^{power * encoding.digits}"
    text = f"{encoding.text}: expected less than 2^63, and layer {name} reaches {reached}"
    unit = "bits" if encoding.base == 2 else "digits"
    return f"{text}; use at most {fit} {unit}" if fit else f"{text}; its values are too large to be shared"


def _reaches(steps: Sequence[Step], images: Tensor) -> Iterator[tuple[str, float, int]]:
    """The name of a layer, the largest magnitude before it truncates, and its power of the scale."""
    yield "(image)", float(images.abs().max()), 1
    inputs = images
    for step, outputs in zip(steps, outputs_of(steps, images), strict=True):
        if step.weight is not None:
            yield step.name, float(replace(step, bias=None)(inputs).abs().max()), 2
            numbers = [each for each in (step.weight, step.bias) if each is not None]
            yield step.name, max(float(each.abs().max()) for each in numbers), 1
        elif step.kind is Kind.POOL:
            yield step.name, float(outputs.abs().max()) * step.window[0] * step.window[1], 1
        inputs = outputs
