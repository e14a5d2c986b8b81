"""Reads the labels off the gradient of the last layer.

With p the softmax of the scores and y the one-hot label of an image, the gradient of the last layer's bias
is p - y, and that of its weights is (p - y) h^T with the features h: Zhao et al. 2020, eq. 3 to 5. For
several images the terms are added up (Wainakh et al. 2022).
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.layers import LayerNames
from leakbench.core.randomness import generator_for

PROBES = 64  # random images in place of the unknown ones, to estimate the network's mean output


def readings(case: Case, layer: LayerNames) -> list[Tensor]:
    """Estimates of the labels, classes (N,), without duplicates; the most reliable one comes first.

    For one image there are three: the row of the weights with the smallest sum, which averages noise over
    the features but needs their sum to be >= 0; the largest entry of the rows' common direction, which works
    for features of both signs; and the smallest entry of the bias. For several images there is one, which
    counts the labels of each class.
    """
    weight = case.shared[layer.weight]
    bias = case.shared[layer.bias] if layer.bias else None
    if case.spec.count > 1:
        return [counts_of(case, weight, bias)]
    rows = weight.double()
    found = [rows.sum(1).argmin(), torch.linalg.svd(rows, full_matrices=False).U[:, 0].abs().argmax()]
    if bias is not None:
        found.append(bias.argmin())
    return [torch.tensor([label]) for label in dict.fromkeys(map(int, found))]


def counts_of(case: Case, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The labels (N,) of several images, sorted by class.

    The gradient of class k is the mean probability of k minus the share of labels that are k. The
    probability is estimated with random images; labels go to the classes with the largest difference.
    """
    count = case.spec.count
    probabilities, features = _usual(case)
    if bias is None:  # use the weights, with the sum of the features in place of 1
        bias = weight.sum(1) / features if features else weight.sum(1)
    missing = count * (probabilities - bias)
    labels = []
    for _ in range(count):
        labels.append(int(missing.argmax()))
        missing[labels[-1]] -= 1
    return torch.tensor(sorted(labels))


def _usual(case: Case) -> tuple[Tensor, float]:
    """The mean probabilities (K,) of smooth random images, and the mean sum of the last layer's inputs."""
    generator = generator_for("label probes", *case.purpose)
    coarse = torch.rand(PROBES, case.spec.shape[0], 4, 4, generator=generator)
    images = nn.functional.interpolate(coarse, case.spec.shape[1:], mode="bilinear", align_corners=False)
    own = deepcopy(case.model)
    sums: list[float] = []
    for module in own.modules():
        if isinstance(module, nn.Linear) and module.out_features == case.spec.classes:
            module.register_forward_hook(lambda _m, inputs, _o: sums.append(float(inputs[0].sum(1).mean())))
    with torch.no_grad():
        scores = own(images.to(next(iter(case.shared.values())).dtype))
    return scores.softmax(1).mean(0), sums[-1] if sums else 0.0
