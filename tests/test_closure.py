"""The match loss of a batch against `bench.gradients.match_loss`, slot by slot, for many layers."""

import logging
from itertools import product

import pytest
import torch
from torch import nn

from leakbench.bench.attacks import Case, Spec, Start
from leakbench.bench.attacks import closure as module
from leakbench.bench.attacks.closure import BatchClosure
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.gradients import match_loss_slope, shared_gradient

pytestmark = pytest.mark.numeric

SHAPE, CLASSES = (3, 12, 12), 5


class Residual(nn.Module):
    """Two ways to the sum, one of them over single pixels."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Sigmoid(), nn.Conv2d(6, 6, 3, padding=1))
        self.shortcut = nn.Conv2d(3, 6, 1, bias=False)

    def forward(self, x):
        return torch.tanh(self.body(x) + self.shortcut(x))


class Scaled(nn.Module):
    """A parameter of its own, a buffer, and a tensor that is neither."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.full((3, 1, 1), 0.7))
        self.register_buffer("shift", torch.full((3, 1, 1), 0.1))
        self.offset = torch.linspace(0, 1, 12)

    def forward(self, x):
        return x * self.factor + self.shift + self.offset


LAYERS = {
    "strided": lambda: nn.Conv2d(3, 6, 5, stride=2, padding=2),
    "stride beyond the kernel": lambda: nn.Conv2d(3, 6, 2, stride=3),
    "dilated": lambda: nn.Conv2d(3, 6, 3, dilation=2),
    "grouped": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "oblong": lambda: nn.Conv2d(3, 6, (3, 1), stride=(1, 2), padding=(1, 0)),
    "one pixel": lambda: nn.Conv2d(3, 6, 1, stride=2),
    "transposed": lambda: nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1, output_padding=1),
    "reflected": lambda: nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"),
    "one-dimensional": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 5, stride=3)),
    "pooled": lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.AvgPool2d(2)),
    "residual": Residual,
    "scaled": Scaled,
    "linear": nn.Identity,
}


def case_of(network, shared, start, number=0):
    return Case(number, network, shared, Spec(SHAPE, CLASSES, len(start.images)), start=start)


def begun(case):
    (candidate,) = DLG().candidates(case)
    return candidate


def victims(name, dtype, count=1):
    """Three networks of one architecture with a case each."""
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        network = nn.Sequential(LAYERS[name](), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(CLASSES))
        network(torch.zeros(1, *SHAPE))
        for parameter in network.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
        network = network.to(dtype).eval()
        images = torch.rand((count, *SHAPE), generator=generator, dtype=dtype)
        start = Start(
            torch.randn((count, *SHAPE), generator=generator, dtype=dtype),
            torch.randn((count, CLASSES), generator=generator, dtype=dtype),
        )
        labels = (number + torch.arange(count)) % CLASSES
        yield case_of(network, shared_gradient(network, images, labels), start, number)


FEW = [("cpu", torch.float32, 3), ("cpu", torch.float64, 1), ("cuda", torch.float32, 1)]
OTHERS = [
    each for each in product(("cpu", "cuda"), (torch.float32, torch.float64), (1, 3)) if each not in FEW
]


@pytest.mark.parametrize(
    ("kind", "dtype", "count"),
    [*FEW, *(pytest.param(*each, marks=pytest.mark.long) for each in OTHERS)],
    ids=str,
)
@pytest.mark.parametrize("name", LAYERS)
def test_every_slot_has_the_match_loss_of_its_own_case(name, dtype, count, kind):
    """In both dtypes, as PyTorch's own convolutions and oneDNN's want other layouts; and as a GPU does it."""
    cases = list(victims(name, dtype, count))
    candidates = [begun(case) for case in cases]
    batch = BatchClosure(DLG(), cases[0], candidates[0], len(cases), torch.device("cpu"), kind=kind)
    x = torch.stack([candidate.variable for candidate in candidates])
    for slot, (case, candidate) in enumerate(zip(cases, candidates, strict=True)):
        batch.put(slot, case, candidate)
    losses, gradients = batch(x)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    for case, loss, gradient in zip(cases, losses, gradients, strict=True):
        expected, slope = match_loss_slope(
            case.model, case.shared, case.start.images, case.start.label_logits
        )
        torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
        assert (gradient - slope).norm() <= tolerance * slope.norm()


def test_slots_that_depend_on_their_place_are_reported(monkeypatch, caplog):
    (case, *_) = victims("linear", torch.float32)
    batch = BatchClosure(DLG(), case, begun(case), 4, torch.device("cpu"))
    x = torch.zeros(4, case.start.images.numel() + CLASSES)
    batch.check(x)
    assert "depend" not in caplog.text
    exact = module.BatchClosure._evaluate

    def by_place(self, x, *held):
        losses, gradients = exact(self, x, *held)
        return losses * (1 + 1e-6 * torch.arange(len(x))), gradients

    monkeypatch.setattr(BatchClosure, "_evaluate", by_place)
    with caplog.at_level(logging.WARNING):
        batch.check(x)
    assert "the last digits of this model's results depend on the other trials" in caplog.text


def test_nothing_is_recorded_in_vain():
    """Convolutions are what a LeNet costs: no gradient of the weights' gradients' weights among them."""
    network = nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, padding=2), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(CLASSES),
    )  # fmt: skip
    network(torch.zeros(1, *SHAPE))
    image = torch.rand(1, *SHAPE)
    start = Start(image, torch.zeros(1, CLASSES))
    case = case_of(network, shared_gradient(network, image, torch.tensor([0])), start)
    batch = BatchClosure(DLG(), case, begun(case), 2, torch.device("cpu"))
    x = torch.zeros(2, image.numel() + CLASSES)
    recorded = module.record(batch._vectorised, module.convolution_rules(x, "cpu"), x, *batch._held())
    computed = 0
    for node in recorded.graph.nodes:
        if node.target == torch.ops.aten.convolution.default:
            computed += 1
        elif node.target == torch.ops.aten.convolution_backward.default:
            computed += sum(node.args[-1])
    # forward 2, for weights 2, for inputs 1; and of these in turn: 2, 2 x 2, 1
    assert computed == 12
