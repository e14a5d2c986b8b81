"""Both engines against a plain rendering of the authors' loop, and how they end."""

import dataclasses
import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from leakbench.bench.attacks import ATTACKS, Attack, Case, Resources, Spec, Start
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.datasets import DATASETS
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.models import MODELS
from leakbench.core.configured import SettingError
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES

pytestmark = pytest.mark.numeric


def victim(model="lenet", dataset="cifar10-sample", index=0, defense="none", dtype=torch.float32, count=1):
    """A model, what its owner shares, a start, and the truth: images and labels."""
    images = DATASETS.parse(dataset).open(None)
    batch, labels = images.batch(range(index, index + count))
    network = MODELS.parse(model).build(images.shape, images.classes, 0).to(dtype)
    shared = shared_gradient(network, batch.to(dtype), labels)
    shared = DEFENSES.parse(defense)(shared, generator_for("test", defense))
    start = Start.draw(Spec(images.shape, images.classes, count), dataset, index, 0)
    return network, shared, Start(start.images.to(dtype), start.label_logits.to(dtype)), (batch, labels)


def case(number, network, shared, start):
    """One whose attack begins there."""
    (count, *shape), classes = start.images.shape, start.label_logits.shape[1]
    return Case(number, network, shared, Spec(tuple(shape), classes, count), start=start)


@pytest.fixture(params=["reference", "batched"])
def dlg(request):
    """Attacks one victim with either engine; the reconstruction, and the images seen on the way."""

    def attack(network, shared, start, slots=1, **settings):
        seen = []

        def observe(numbers, steps, images, labels):
            assert labels.shape[:2] == images.shape[:2]  # of each image
            assert (numbers, steps) == ([7], [len(seen)])
            seen.append(images[0].clone())

        ((number, found),) = DLG(engine=request.param, **settings).invert_many(
            iter([case(7, network, shared, start)]), observe, Resources(slots=slots)
        )
        assert number == 7
        return found, seen

    attack.engine = request.param
    return attack


def authors_loop(network, shared, start, outer_steps):
    """The loop of the authors' repository: match loss after each outer step."""
    dummy = start.images.clone().requires_grad_()
    label = start.label_logits.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([dummy, label])

    def closure():
        optimizer.zero_grad()
        prediction = network(dummy)
        onehot = functional.softmax(label, dim=-1)
        loss = torch.mean(torch.sum(-onehot * functional.log_softmax(prediction, dim=-1), 1))
        gradients = torch.autograd.grad(loss, network.parameters(), create_graph=True)
        difference = 0
        for mine, true in zip(gradients, shared.values(), strict=True):
            difference += ((mine - true) ** 2).sum()
        difference.backward()
        return difference

    history = []
    for _ in range(outer_steps):
        optimizer.step(closure)
        history.append(closure().item())
    return history, dummy.detach()


@pytest.mark.parametrize(
    ("model", "dataset", "defense", "count"),
    [
        ("lenet", "cifar10-sample", "none", 1),
        ("lenet", "mnist-sample", "gaussian(variance=0.001)", 1),
        ("lenet(activation=tanh, weights=default)", "cifar100-sample", "prune(ratio=0.3)", 1),
        ("lenet(activation=relu, weights=default)", "cifar10-sample", "float16", 1),
        ("mlp(weights=default)", "cifar10-sample", "none", 1),
        ("lenet", "cifar10-sample", "none", 4),
    ],
)
def test_match_loss_follows_the_authors_loop(dlg, model, dataset, defense, count):
    network, shared, start, _ = victim(model, dataset, defense=defense, dtype=torch.float64, count=count)
    # the other engine adds up in another order, which the iteration magnifies: 40 steps of it
    steps = 5 if dlg.engine == "reference" else 2
    expected, images = authors_loop(network, shared, start, steps)
    found, seen = dlg(network, shared, start, steps=steps, stop_loss=0.0, pixel_limit=1e30)
    # where nothing moves any more the engine stops, and the loop repeats itself
    continued = found.history[1:] + [found.history[-1]] * (steps - found.iterations)
    assert continued == pytest.approx(expected, rel=1e-8)
    torch.testing.assert_close(seen[-1], images, rtol=1e-6, atol=1e-8)
    assert found.history[0] > max(expected)


def test_the_attack_rebuilds_a_real_image_and_its_label(dlg):
    network, shared, start, (images, labels) = victim("lenet", "mnist-sample")
    found, _ = dlg(network, shared, start, steps=100)
    assert found.status == "converged"
    assert float((found.x - images).square().mean()) < 1e-5
    assert torch.equal(found.labels.argmax(-1), labels)


def test_the_best_iterate_is_kept_and_not_the_last(dlg):
    network, shared, start, _ = victim()
    found, seen = dlg(network, shared, start, steps=3, lr=30.0, pixel_limit=1e30)
    assert found.objective <= min(found.history)
    assert found.objective < found.history[-1]
    assert not torch.equal(found.x, seen[-1])


def test_every_outer_step_is_observed_in_order(dlg):
    network, shared, start, _ = victim()
    found, seen = dlg(network, shared, start, steps=4)
    assert len(seen) == 5
    assert torch.equal(seen[0], start.images)
    assert (found.iterations, len(found.history), found.status) == (4, 5, "budget")
    assert found.reason == "stopped at the limit of 4 steps"


def test_the_start_is_not_changed_in_place(dlg):
    network, shared, start, _ = victim()
    before = start.images.clone()
    dlg(network, shared, start, steps=1)
    assert torch.equal(start.images, before)


def test_converged_when_match_loss_falls_below_the_limit(dlg):
    network, shared, start, _ = victim()
    found, _ = dlg(network, shared, start, steps=50, stop_loss=5.0)
    assert found.status == "converged"
    assert found.history[-1] < 5.0 <= found.history[-2]
    assert found.reason == f"match loss fell below 5 at step {found.iterations}"


def test_diverged_when_pixels_leave_every_range(dlg):
    network, shared, start, _ = victim()
    found, _ = dlg(network, shared, start, steps=50, lr=1e5)
    assert found.status == "diverged"
    assert found.reason == "a pixel passed 1000 at step 1"


def test_diverged_when_match_loss_is_not_finite(dlg):
    class Explodes(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)).mul(1e4).abs().exp()

    network = Explodes(3072, 10)
    nn.init.ones_(network.weight)
    nn.init.ones_(network.bias)
    _, _, start, (image, label) = victim()
    shared = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    found, _ = dlg(network, shared, start, steps=5)
    assert found.status == "diverged"
    assert found.reason.startswith("match loss became")
    assert torch.equal(found.x, start.images)
    assert math.isinf(found.objective)


def test_nothing_moves_any_more(dlg):
    """At the true image and label the match loss has no gradient: L-BFGS does not take a step."""
    network, shared, _, (images, labels) = victim(dtype=torch.float64)
    certain = torch.full((1, 10), -1e3, dtype=torch.float64)
    certain[0, labels] = 0
    start = Start(images.double(), certain)
    found, _ = dlg(network, shared, start, steps=50, stop_loss=0.0)
    assert (found.status, found.reason) == ("converged", "nothing moved any more from step 1 on")


def test_ending_at_a_fixed_point_loses_nothing(dlg):
    """Where L-BFGS did not move in one outer step, it does not move in the next ten.

    From so near the image, in float64, it comes to rest however a processor rounds.
    """
    network, shared, start, (images, labels) = victim("mlp(hidden=[60])", "mnist-sample", dtype=torch.float64)
    known = torch.full((1, 10), -9.0, dtype=torch.float64)
    known[0, labels] = 9
    near = Start(images.double() + 0.1 * start.images, known)
    found, _ = dlg(network, shared, near, steps=400, stop_loss=0.0, tolerance_change=1e-4)
    assert "nothing moved" in found.reason
    stopped = len(found.history) - 1
    assert stopped > 1
    assert found.history[-1] < 1e-3 * found.history[0]
    history, _ = _with_settings(network, shared, near, stopped + 10, tolerance_change=1e-4)
    assert len(set(history[stopped - 1 :])) == 1


def _with_settings(network, shared, start, outer_steps, **settings):
    original = torch.optim.LBFGS

    class Set(original):
        def __init__(self, parameters):
            super().__init__(parameters, **settings)

    torch.optim.LBFGS = Set
    try:
        return authors_loop(network, shared, start, outer_steps)
    finally:
        torch.optim.LBFGS = original


@pytest.mark.parametrize("attack", list(ATTACKS), ids=lambda attack: attack.name)
def test_the_image_is_no_argument_of_an_attack(attack):
    assert list(inspect.signature(attack.invert).parameters) == ["self", "case"]
    parameters = list(inspect.signature(attack.invert_many).parameters)
    assert parameters == ["self", "cases", "observe", "resources"]
    assert issubclass(attack, Attack)
    known = ["number", "model", "shared", "spec", "purpose", "account", "defense", "protocol", "start"]
    known += ["labels", "lengths"]  # of those who are told them, who say so
    known += ["whole"]  # worked out of what was shared
    assert [field.name for field in dataclasses.fields(Case)] == known
    assert [field.name for field in dataclasses.fields(Spec)] == [
        "shape", "classes", "count", "steps", "signed", "modality", "vocabulary", "masked",
    ]  # fmt: skip


def test_defaults_are_the_authors():
    """`torch.optim.LBFGS` with every default, 300 outer steps."""
    defaults = inspect.signature(torch.optim.LBFGS.__init__).parameters
    attack = DLG()
    assert attack.steps == 300
    assert attack.history == defaults["history_size"].default
    assert (attack.lr, attack.max_iter) == (defaults["lr"].default, defaults["max_iter"].default)
    assert attack.max_eval == attack.max_iter * 5 // 4  # PyTorch's rule
    assert attack.tolerance_grad == defaults["tolerance_grad"].default
    assert attack.tolerance_change == defaults["tolerance_change"].default
    assert defaults["line_search_fn"].default is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dlg(steps=0)", r"steps: expected a whole number in \[1, 1000000000\], got 0"),
        ("dlg(history=0)", r"history: expected a whole number in \[1, 10000\], got 0"),
        ("dlg(lr=0)", r"lr: expected a number in \(0, 1e\+38\], got 0"),
        ("dlg(stop_loss=-1)", "stop_loss: expected a number >= 0, got -1"),
        ("dlg(pixel_limit=0)", "pixel_limit: expected a number > 0, got 0"),
        ("dlg(engine=fast)", "engine: expected one of batched, reference, got 'fast'"),
        ("dlg(init=zeros)", "init: expected one of normal, uniform, got 'zeros'"),
        ("dgl", "unknown attack 'dgl'; did you mean 'dlg'?"),
    ],
)
def test_settings_out_of_range(text, problem):
    with pytest.raises(SettingError, match=problem):
        ATTACKS.parse(text)
