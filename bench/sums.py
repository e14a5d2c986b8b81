"""Sums that do not depend on the memory alignment of their terms.

A GPU reads numbers in groups of four. PyTorch sums a row that begins inside a group in another order than a
row that begins with one, so the last digits of a slot's results would depend on the slot's place.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vecdot

from leakbench.bench.operations import Rules

aten = torch.ops.aten
FOUR = 4
Dims = list[int] | None  # None: all


def row_sums(x: Tensor) -> Tensor:
    """The sum (B,) of each row of x (B, size)."""
    return _in_fours(x).sum(1) if x.is_cuda else x.sum(1)


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """The dot product (B,) of each row of a (B, size) with the same row of b (B, size)."""
    return row_sums(a * b) if a.is_cuda else vecdot(a, b)


def sum_rules(kind: str) -> Rules:
    """How to compute sums and means on that kind of device."""
    return {aten.sum.dim_IntList: _sum, aten.mean.dim: _mean} if kind == "cuda" else {}


def _in_fours(x: Tensor) -> Tensor:
    """Pad the last dimension with zeros to a multiple of four."""
    return torch.constant_pad_nd(x, [0, -x.shape[-1] % FOUR])


def _sum(x: Tensor, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    """As aten::sum, for rows that do not all begin with a group of four."""
    gone = sorted(dim % x.ndim for dim in dims or range(x.ndim))
    kept = [dim for dim in range(x.ndim) if dim not in gone]
    count = math.prod(x.shape[dim] for dim in gone)
    if dtype is not None or not x.is_floating_point() or not kept or count % FOUR == 0:
        return NotImplemented
    rows = x.permute(*kept, *gone).reshape(*(x.shape[dim] for dim in kept), count)
    found = aten.sum.dim_IntList(_in_fours(rows), [-1])
    return found.reshape([1 if dim in gone else n for dim, n in enumerate(x.shape)]) if keepdim else found


def _mean(x: Tensor, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    """As aten::mean, for the same rows."""
    total = _sum(x, dims, keepdim, dtype=dtype)
    return total if total is NotImplemented else total * (total.numel() / x.numel())
