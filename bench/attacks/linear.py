"""Reads images off the gradient of the first layer, if that layer is fully connected.

The gradient of its weights is the outer product of the bias gradient and the image: Phong et al. 2017,
"Privacy-Preserving Deep Learning via Additively Homomorphic Encryption", section 3. For several images it
is a sum of such products, which `bench.attacks.null_vectors` separates.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from leakbench.bench.attacks.base import Attack, Case, Found, Knows, NotApplicableError, Status
from leakbench.bench.attacks.layers import InputLayer, input_layer
from leakbench.bench.attacks.null_vectors import separate
from leakbench.bench.attacks.recursive import FAR, GREY
from leakbench.bench.posterior import PRIOR, TRUST, kept_of, variance_of
from leakbench.bench.rank_one import layer_of_rank_one
from leakbench.core import citations


@dataclass(frozen=True)
class Linear(Attack):
    """One image by the best rank-one fit to the kept entries; several images if a ReLU follows the layer."""

    name: ClassVar[str] = "linear"
    citation: ClassVar[str] = citations.SPEAR
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.DEFENSE})  # which entries were kept, and how noisy

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        if example.spec.signed:
            return "expected a gradient, whose rows are the image times numbers, got signs"
        try:
            layer = input_layer(example.model, example.spec)
        except NotApplicableError as error:
            return str(error)
        if example.spec.count > 1 and not _is_rectified(layer, example):
            return "expected a ReLU after the first layer, whose zeros separate several images"
        return ""

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`."""
        layer = input_layer(case.model, case.spec)
        weight, bias = (case.shared[each].double() for each in (layer.weight, layer.bias))
        if case.spec.count == 1:
            pixels, slopes = _one(case, layer)
        else:
            found = separate(weight, bias, case.spec.count, case.generator("null vectors"))
            pixels, slopes = found.images, found.slopes * case.spec.count
        missing = case.spec.count - len(pixels)
        pixels = torch.cat([pixels, torch.full((missing, pixels.shape[1]), GREY, dtype=pixels.dtype)])
        dtype = next(iter(case.shared.values())).dtype
        images = pixels.nan_to_num(GREY).clamp(-FAR, FAR).to(dtype).view(case.spec.batch_shape)
        labels = _labels(case, layer, images, slopes)
        if missing:
            reason = f"{missing} of {case.spec.count} images could not be told apart, and are grey"
            return Found(images, labels, status=Status.BUDGET, reason=reason)
        return Found(images, labels, reason="solved in closed form")


def _one(case: Case, layer: InputLayer) -> tuple[Tensor, Tensor]:
    """The image (1, pixels), and the gradient (m, 1) of the loss with respect to the layer's outputs."""
    kept = kept_of(case.account, case.shared)
    slopes, image = layer_of_rank_one(case.shared, kept, layer.weight, layer.bias)
    image = image.nan_to_num(GREY).clamp(-FAR, FAR)
    square = float(slopes.square().sum())
    noise = variance_of(case.account, {layer.weight: kept[layer.weight]})
    variance = noise / square if square > 0 else 0.0  # of the error of a pixel
    if variance:  # the most likely image under the prior, see `bench.posterior`
        smooth = denoise_tv_chambolle(
            image.view(case.spec.shape).numpy(), TRUST * variance / PRIOR, eps=1e-5, channel_axis=0
        )
        image = torch.from_numpy(smooth).flatten()
    return image[None], slopes[:, None]


def _labels(case: Case, layer: InputLayer, images: Tensor, slopes: Tensor) -> Tensor:
    """The classes (N,) whose slopes in the layer's outputs are closest in direction to the given ones."""
    count, classes = case.spec.logit_shape
    each = torch.stack(
        [layer.slopes(images, torch.full((count,), label))[1].double() for label in range(classes)]
    )  # (K, N, m)
    found = torch.zeros(count, each.shape[2], dtype=torch.float64)
    found[: slopes.shape[1]] = slopes.T
    return torch.cosine_similarity(each, found[None], dim=2).argmax(0)


def _is_rectified(layer: InputLayer, example: Case) -> bool:
    """Whether the slope is zero at all negative outputs of the layer, but not at all positive ones."""
    images = torch.rand(example.spec.batch_shape, generator=example.generator("is rectified"))
    images = images.to(next(layer.model.parameters()).dtype)
    outputs, slopes = layer.slopes(images, torch.zeros(example.spec.count, dtype=torch.long))
    return not slopes[outputs < 0].any() and bool(slopes[outputs > 0].any())
