"""Sums as a GPU does them, compared with PyTorch's own; `test_gpu` shows that they help there."""

import pytest
import torch

from leakbench.bench.operations import record
from leakbench.bench.sums import row_products, row_sums, sum_rules

aten = torch.ops.aten


@pytest.mark.parametrize("dims", [[1], [-1], [1, 2], [0, 2], [-2, -1], [2], None])
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 4, 8), (3, 2, 1)])
@pytest.mark.parametrize("operation", [torch.sum, torch.mean])
def test_sums_and_means_are_what_they_were(dims, keepdim, shape, operation):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def function(x):
        return operation(x, dims, keepdim)

    torch.testing.assert_close(record(function, sum_rules("cuda"), x)(x), function(x), rtol=1e-14, atol=1e-14)


def test_every_row_begins_with_a_four():
    x = torch.ones(6, 5, 3)
    recorded = record(lambda x: x.square().sum((1, 2)) + x.mean((1, 2)), sum_rules("cuda"), x)
    sums = [node for node in recorded.graph.nodes if node.target == aten.sum.dim_IntList]
    assert [tuple(node.args[0].meta["val"].shape) for node in sums] == [(6, 16), (6, 16)]
    assert not [node for node in recorded.graph.nodes if node.target == aten.mean.dim]


def test_on_the_cpu_nothing_is_done_otherwise():
    assert sum_rules("cpu") == {}
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(row_sums(x), x.sum(1))
    assert torch.equal(row_products(x, x), torch.linalg.vecdot(x, x))
