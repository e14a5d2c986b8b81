"""Sums that do not depend on where in memory their terms lie.

A GPU reads numbers by fours. PyTorch adds up a row that begins between two fours in another order than one
that begins with a four; so what came of a slot would depend, in its last digits, on the slot's place.
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
    """(B,) of the rows of x (B, size)."""
    return _in_fours(x).sum(1) if x.is_cuda else x.sum(1)


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """(B,): the product of each row of a (B, size) with that of b (B, size)."""
    return row_sums(a * b) if a.is_cuda else vecdot(a, b)


def sum_rules(kind: str) -> Rules:
    """How sums and means are to be done on that kind of device."""
    return {aten.sum.dim_IntList: _sum, aten.mean.dim: _mean} if kind == "cuda" else {}


def _in_fours(x: Tensor) -> Tensor:
    """With zeros at the end of the last dimension."""
    return torch.constant_pad_nd(x, [0, -x.shape[-1] % FOUR])


def _sum(x: Tensor, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    """As aten::sum, where that would read rows that do not all begin with a four."""
    gone = sorted(dim % x.ndim for dim in dims or range(x.ndim))
    kept = [dim for dim in range(x.ndim) if dim not in gone]
    count = math.prod(x.shape[dim] for dim in gone)
    if dtype is not None or not x.is_floating_point() or not kept or count % FOUR == 0:
        return NotImplemented
    rows = x.permute(*kept, *gone).reshape(*(x.shape[dim] for dim in kept), count)
    found = aten.sum.dim_IntList(_in_fours(rows), [-1])
    return found.reshape([1 if dim in gone else n for dim, n in enumerate(x.shape)]) if keepdim else found


def _mean(x: Tensor, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    """As aten::mean, likewise."""
    total = _sum(x, dims, keepdim, dtype=dtype)
    return total if total is NotImplemented else total * (total.numel() / x.numel())
