"""A batch against `torch.optim.LBFGS`, iterate by iterate, in float64: the same algorithm in every slot."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from leakbench.bench.attacks import Case, Resources, Spec, Start
from leakbench.bench.attacks.batched import Batch
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.attacks.runs import Feed
from leakbench.bench.datasets import DATASETS
from leakbench.bench.gradients import match_loss, shared_gradient
from leakbench.bench.models import MODELS
from leakbench.bench.steppers import LockStepLBFGS
from leakbench.bench.steppers.lbfgs import CURVATURE, Settings
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES

pytestmark = pytest.mark.numeric

ITERATIONS = 40


@cache
def victims(model, dataset):
    """Cases in float64: every defense from a usual start, and starts near the image and far from it."""
    images = DATASETS.parse(dataset).open(None)
    image, label = images.batch([1])
    network = MODELS.parse(model).build(images.shape, images.classes, 0).double()
    gradient = shared_gradient(network, image.double(), label)
    spec = Spec(images.shape, images.classes)
    usual = Start.draw(spec, "row for row")
    known = torch.full((1, images.classes), -9.0, dtype=torch.float64)
    known[0, label] = 9
    starts = [
        *((defense, usual.images.double(), usual.label_logits.double()) for defense in
          ("none", "gaussian(variance=0.01)", "float16", "prune(ratio=0.5)")),
        ("none", image.double() + 1e-4 * usual.images.double(), known),
        ("none", image.double() + 1e-6 * usual.images.double(), known),
        ("none", 20 * usual.images.double(), usual.label_logits.double()),
        ("laplacian(variance=10)", 5 * usual.images.double(), usual.label_logits.double()),
    ]  # fmt: skip
    return [
        Case(
            number,
            network,
            DEFENSES.parse(defense)(gradient, generator_for("row for row", defense)),
            spec,
            start=Start(dummy, label_logits),
        )
        for number, (defense, dummy, label_logits) in enumerate(starts)
    ]


@cache
def rows_of(model, dataset, off=0.0):
    """What PyTorch makes of each case: see `by_pytorch`."""
    return [by_pytorch(case, off) for case in victims(model, dataset)]


def by_pytorch(case, off=0.0):
    """[(point, match loss, gradient)], each point once; from a start that is so far off, relatively."""
    image, label_logits = (
        each.clone().mul_(1 + off).requires_grad_() for each in (case.start.images, case.start.label_logits)
    )
    optimizer = torch.optim.LBFGS([image, label_logits])
    seen = []

    def closure():
        loss = match_loss(case.model, case.shared, image, label_logits, create_graph=True)
        image.grad, label_logits.grad = torch.autograd.grad(loss, [image, label_logits])
        point, slope = (
            torch.cat([each.detach().flatten() for each in pair])
            for pair in ((image, label_logits), (image.grad, label_logits.grad))
        )
        if not (seen and torch.equal(point, seen[-1][0])):
            seen.append((point, loss.detach(), slope))
        return loss.detach()

    for _ in range(ITERATIONS):
        optimizer.step(closure)
        if len(seen) > ITERATIONS:
            break
    return seen[: ITERATIONS + 1]


def error(point, expected):
    """Relative."""
    return float((point - expected).norm() / expected.norm())


MODELS_AND_DATA = [
    ("lenet", "cifar10-sample"),
    ("lenet(activation=tanh, weights=default)", "mnist-sample"),
    ("lenet(activation=relu, weights=default)", "cifar100-sample"),
    ("mlp(hidden=[40])", "lfw-subset"),
]


@pytest.mark.parametrize(("model", "dataset"), MODELS_AND_DATA)
def test_every_step_is_the_one_of_pytorch(model, dataset):
    """From PyTorch's own points, so that no error is carried on: each step of each row to 1e-8."""
    rows = rows_of(model, dataset)
    size = len(rows[0][0][0])
    optimizer = LockStepLBFGS(len(rows), size, Settings(), torch.device("cpu"), torch.float64)
    for slot in range(len(rows)):
        optimizer.restart(slot, rows[slot][0][0])
    for iteration in range(ITERATIONS):
        # a row that PyTorch does not move any more stays at its last point
        points, losses, slopes = (
            torch.stack(each)
            for each in zip(*(row[min(iteration, len(row) - 1)] for row in rows), strict=True)
        )
        optimizer.x.copy_(points)
        optimizer.arrive(losses, slopes)
        optimizer.depart(losses, slopes)
        for row, point in zip(rows, optimizer.x, strict=True):
            assert error(point, row[min(iteration + 1, len(row) - 1)][0]) <= 1e-8


@pytest.mark.parametrize(("model", "dataset"), MODELS_AND_DATA)
def test_every_iterate_is_the_one_of_pytorch(model, dataset):
    """To 1e-8; where PyTorch itself loses that by a start that is off in its last bit, as far as that."""
    cases = victims(model, dataset)
    attack = DLG(stop_loss=0, pixel_limit=1e300)
    runs = list(Feed(attack, iter(cases)))
    batch = Batch(attack, runs[0], Resources(slots=len(cases)))
    for slot, run in enumerate(runs):
        batch.put(slot, run)
    pairs = zip(rows_of(model, dataset), rows_of(model, dataset, 2.0**-52), strict=True)
    rows = [list(zip(*pair, strict=False)) for pair in pairs]
    lost = [0.0] * len(cases)
    for iteration in range(ITERATIONS):
        for slot, row in enumerate(rows):
            (expected, *_), (other, *_) = row[min(iteration, len(row) - 1)]
            lost[slot] = max(lost[slot], error(other, expected))
            assert error(batch.stepper.x[slot], expected) <= max(1e-8, 1e4 * lost[slot])
        batch.step(lambda *_: None)
    assert sum(each < 1e-12 for each in lost) >= 3  # held to 1e-8


def test_rows_of_every_kind_are_among_them():
    """That converge, diverge, skip an update of the history, and go on."""
    kinds = set()
    for model, dataset in MODELS_AND_DATA:
        for row in rows_of(model, dataset):
            kinds.add("converges" if row[-1][1] < 1e-6 else "goes on")
            if row[-1][0].abs().max() > 1e3:
                kinds.add("diverges")
            pairs = ((b[0] - a[0]) @ (b[2] - a[2]) for a, b in pairwise(row))
            if any(curvature <= CURVATURE for curvature in pairs):
                kinds.add("skips")
    assert kinds == {"converges", "goes on", "diverges", "skips"}
