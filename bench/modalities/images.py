"""Images (C, H, W), float32 in [0, 1]."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from leakbench.bench.metrics import Scores, match, matched_mse, score
from leakbench.bench.modalities.base import Modality
from leakbench.bench.posterior import image_prior
from leakbench.defenses.contract import unlike

if TYPE_CHECKING:
    from leakbench.bench.modalities.spec import Spec


class ImageModality(Modality):
    """See `bench.metrics`."""

    name: ClassVar[str] = "images"
    columns: ClassVar[tuple[str, ...]] = tuple(each.name for each in fields(Scores) if each.name != "score")
    leading: ClassVar[str] = "ssim"
    title: ClassVar[str] = "SSIM"
    medians: ClassVar[dict[str, str]] = {"ssim": "SSIM", "psnr": "PSNR [dB]", "mse": "MSE (clipped pixels)"}
    forms: ClassVar[dict[str, str]] = {"ssim": ".3f", "psnr": ".1f", "mse": ".2g"}
    error: ClassVar[str] = "image MSE (raw pixels)"
    one: ClassVar[str] = "image"
    leak: ClassVar[float] = 0.9
    artifacts: ClassVar[float] = 0.2

    def problems(self, spec: "Spec", found: object, like: Tensor) -> Iterator[str]:
        """See `Modality.problems`."""
        wanted = torch.empty(spec.batch_shape, dtype=like.dtype)
        yield from (f"images: {problem}" for problem in unlike(wanted, found))

    def label_problems(self, spec: "Spec", labels: object) -> Iterator[str]:
        """See `Modality.label_problems`: classes (N,), or logits (N, K)."""
        count, classes = spec.logit_shape
        expected = f"expected classes ({count},) below {classes}, or logits ({count}, {classes})"
        if labels is None:
            return
        if not isinstance(labels, Tensor):
            yield f"{expected}, got {type(labels).__name__}"
        elif labels.is_floating_point():
            problems = unlike(labels.new_empty(spec.logit_shape), labels)
            yield from (f"{expected}: {problem}" for problem in problems)
        elif labels.shape != (count,) or not bool(((labels >= 0) & (labels < classes)).all()):
            yield f"{expected}, got {labels.tolist()}"

    def batch_shape(self, spec: "Spec") -> tuple[int, ...]:
        """See `Modality.batch_shape`: (N, C, H, W)."""
        return spec.count, *spec.shape

    def match(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[int]:
        """See `Modality.match`."""
        return match(found, truth)

    def errors(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[float]:
        """See `Modality.errors`: the MSE of raw pixels."""
        return matched_mse(found, truth)

    def scores(self, found: Tensor, truth: Tensor, spec: "Spec") -> dict[str, float]:
        """See `Modality.scores`."""
        return asdict(score(truth, found))

    def seen(self, found: Tensor) -> Tensor:
        """See `Modality.seen`: in [0, 1]."""
        return found.clamp(0, 1)

    def in_range(self, found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """See `Modality.in_range`: pixels beyond [0, 1] would be clipped."""
        low, high = truth.min().clamp(max=0), truth.max().clamp(min=1)
        return (found - low) / (high - low), (truth - low) / (high - low)

    def prior(self, found: Tensor) -> float:
        """See `Modality.prior`."""
        return image_prior(found)


IMAGES = ImageModality()
