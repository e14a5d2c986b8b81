"""Reads the labels off the gradient of the last layer.

With p the softmax of the scores and y the one-hot label of an image, the gradient of the last layer's bias
is p - y, and that of its weights is (p - y) h^T with the features h: Zhao et al. 2020, eq. 3 to 5.
"""

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.batch_labels import batch_readings
from leakbench.bench.attacks.layers import LayerNames


def readings(case: Case, layer: LayerNames) -> list[Tensor]:
    """Estimates of the labels, classes (N,), without duplicates; the most reliable one comes first.

    For one image there are three: the row of the weights with the smallest sum, which averages noise over
    the features but needs their sum to be >= 0; the largest entry of the rows' common direction, which works
    for features of both signs; and the smallest entry of the bias. Of several images: `batch_readings`.
    """
    if case.spec.count > 1:
        return batch_readings(case)
    weight = case.shared[layer.weight]
    bias = case.shared[layer.bias] if layer.bias else None
    rows = weight.double()
    found = [rows.sum(1).argmin(), torch.linalg.svd(rows, full_matrices=False).U[:, 0].abs().argmax()]
    if bias is not None:
        found.append(bias.argmin())
    return [torch.tensor([label]) for label in dict.fromkeys(map(int, found))]
