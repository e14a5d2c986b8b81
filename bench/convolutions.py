"""Convolutions of many slots at once, each with its own kernels, in the way that is fastest on a device.

torch.func turns them into one convolution with one group per slot. oneDNN is fast at this on the CPU. cuDNN
is not: on a GPU it takes four times as long as one matrix product per slot (docs/LOG.md).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from leakbench.bench.operations import Rules

aten = torch.ops.aten


def uses_onednn(example: Tensor, kind: str) -> bool:
    """Whether oneDNN computes the convolutions; it is fastest if channels are contiguous (channels last).

    PyTorch's own convolutions, used for float64 for example, give wrong weight gradients in that format.
    """
    return kind == "cpu" and example.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def convolution_rules(example: Tensor, kind: str) -> Rules:
    """How to compute convolutions for tensors such as `example` on a device of that kind."""
    if kind == "cuda":
        return {aten.convolution.default: _by_matrices, aten.convolution_backward.default: _slopes}
    return {aten.convolution.default: _turned} if uses_onednn(example, kind) else {}


def _turned(  # the arguments of aten::convolution
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:  # the tensor, or NotImplemented for other convolutions
    """A transposed convolution, computed as the gradient of a convolution: half the time with oneDNN."""
    if not transposed or bias is not None:
        return NotImplemented
    size = _size_before(image, weight, stride, padding, dilation, output_padding)
    like = image.new_empty(image.shape[0], weight.shape[1] * groups, *size)
    rest = (stride, padding, dilation, False, [0] * len(size), groups, [True, False, False])
    gradients: tuple[Tensor, ...] = aten.convolution_backward(image, like, weight, None, *rest)
    return gradients[0]


def _size_before(
    image: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    output_padding: list[int],
) -> list[int]:
    """The height and width of the result of a transposed convolution."""
    steps = zip(image.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    return [(n - 1) * s - 2 * p + d * (k - 1) + more + 1 for n, k, s, p, d, more in steps]


def _by_matrices(  # the arguments of aten::convolution
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:  # the tensor, or NotImplemented for other convolutions
    """A convolution of images (N, groups x C, H, W) as one matrix product per group."""
    if not _has_matrices(weight, dilation, groups) or (transposed and bias is not None):
        return NotImplemented
    if transposed:
        size = _size_before(image, weight, stride, padding, dilation, output_padding)
        return _input_slope(image, weight, size, stride, padding, groups)
    count = len(image)
    patches, size = _patches(image, weight.shape[2:], stride, padding, groups)
    found = torch.bmm(weight.reshape(groups, len(weight) // groups, -1), patches)
    found = found.reshape(groups, -1, count, *size).transpose(0, 2).transpose(1, 2)  # (N, groups, C, h, w)
    found = found.reshape(count, len(weight), *size)
    return found if bias is None else found + bias[:, None, None]


def _slopes(  # the arguments of aten::convolution_backward
    slope: Tensor,
    image: Tensor,
    weight: Tensor,
    _bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> Any:  # a tensor or None for image, weight and bias; or NotImplemented
    """The gradients of image, kernels and bias, given the slope (N, groups x C', h, w) of the result."""
    if transposed or not _has_matrices(weight, dilation, groups):
        return NotImplemented
    of_image = of_weight = of_bias = None
    if wanted[0]:
        of_image = _input_slope(slope, weight, image.shape[2:], stride, padding, groups)
    if wanted[1]:
        patches, _ = _patches(image, weight.shape[2:], stride, padding, groups)
        of_weight = torch.bmm(_columns(slope, groups), patches.mT).reshape(weight.shape)
    if wanted[2]:
        of_bias = slope.sum((0, 2, 3))
    return of_image, of_weight, of_bias


def _has_matrices(weight: Tensor, dilation: list[int], groups: int) -> bool:
    return groups > 1 and weight.ndim == 4 and tuple(dilation) == (1, 1)


def _patches(
    image: Tensor, kernel: Sequence[int], stride: list[int], padding: list[int], groups: int
) -> tuple[Tensor, list[int]]:
    """The patches under the kernel, (groups, C x kernel, N x h x w), and the size (h, w) of the result."""
    high, wide = padding
    if high or wide:
        image = torch.constant_pad_nd(image, [wide, wide, high, high])
    windows = image.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])  # (N, ..., h, w, kernel)
    size = list(windows.shape[2:4])
    windows = windows.reshape(len(image), groups, -1, *windows.shape[2:]).permute(1, 2, 5, 6, 0, 3, 4)
    return windows.reshape(groups, windows.shape[1] * kernel[0] * kernel[1], -1), size


def _columns(slope: Tensor, groups: int) -> Tensor:
    """(N, groups x C, h, w) as (groups, C, N x h x w)."""
    count, channels = slope.shape[:2]
    apart = slope.reshape(count, groups, channels // groups, -1)
    return apart.permute(1, 2, 0, 3).reshape(groups, channels // groups, -1)


def _input_slope(
    slope: Tensor, weight: Tensor, size: Sequence[int], stride: list[int], padding: list[int], groups: int
) -> Tensor:
    """The slope (N, groups x C, H, W) in the image: each place (h, w) adds to all pixels it saw."""
    count, places = len(slope), slope.shape[2] * slope.shape[3]
    patches = torch.bmm(weight.reshape(groups, len(weight) // groups, -1).mT, _columns(slope, groups))
    patches = (
        patches.reshape(groups, -1, count, places).permute(2, 0, 1, 3).reshape(count * groups, -1, places)
    )
    # no scatter: a GPU adds scattered values in no fixed order
    found: Tensor = aten.col2im(patches, list(size), list(weight.shape[2:]), [1, 1], padding, stride)
    return found.reshape(count, -1, *size)
