"""Tests, before any attack starts, whether a network can be attacked through its gradients."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import Case, Spec, Start
from leakbench.bench.attacks.closure import BatchClosure
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.datasets import Images, Source
from leakbench.bench.gradients import match_loss, match_loss_slope, shared_gradient, trained_parameters
from leakbench.bench.models import Model
from leakbench.core.configured import SettingError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.randomness import generator_for

STRIDE = 1e-6  # step of the finite difference, in float64, in units of pixel values
NOTHING_TO_SHARE = "expected parameters that require a gradient, got none"
WORST_SLOPE_ERROR = 0.05  # relative; a few ReLUs may switch within a stride


def model_problems(
    model: Model, source: Source, batch: Tensor, labels: Tensor, batched: bool, build: Callable[[], nn.Module]
) -> Iterator[str]:
    """Yield why a network cannot be attacked through its gradients for such a batch of examples.

    Args:
        model: what the network is of.
        source: what the examples are of.
        batch: these, as `Source.batch` returns them.
        labels: their classes (N,).
        batched: whether an attack runs the network in a batch of several cases.
        build: makes the network.
    """
    if model.modality not in (None, source.modality):
        yield f"expected a model of {source.modality.name}, got one of {model.modality.name}"
        return
    try:
        with foreign(SettingError, SystemExit):
            inputs, answers = model.given(source, batch, labels, [("check", n) for n in range(len(batch))])
            network = build()
            scores = deepcopy(network)(inputs)  # a model may store its inputs
    except SettingError as error:
        yield error.problems[0][1]
        return
    except ForeignError as error:
        size = "x".join(map(str, source.shape))
        yield f"expected a model that takes {source.modality.name} of {size}, got {error.short}"
        return
    shape = (len(batch), source.shape[1], batch.shape[1]) if model.masked else (len(batch), source.classes)
    if not isinstance(scores, Tensor) or scores.shape != shape:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        yield f"expected class scores of shape {shape}, got {got}"
        return
    if not scores.isfinite().all():
        yield "expected finite class scores, got NaN or infinity"
        return
    if not isinstance(source, Images):
        yield from gradient_problems(network, inputs, answers)
        return
    images = source
    found = list(differentiation_problems(network, images, batch, labels))
    yield from found
    if batched and not found:
        yield from batch_problems(network, images, batch, labels)


def gradient_problems(network: nn.Module, inputs: Tensor, answers: Tensor) -> Iterator[str]:
    """Yield why the loss has no gradient."""
    if not trained_parameters(network):
        yield NOTHING_TO_SHARE
        return
    try:
        with foreign(SystemExit):
            shared_gradient(deepcopy(network), inputs, answers)
    except ForeignError as error:
        yield f"expected a model that can be differentiated, got {error.short}"


def differentiation_problems(
    network: nn.Module, images: Images, batch: Tensor, labels: Tensor
) -> Iterator[str]:
    """Yield why the match loss has no gradient, or a wrong one, with respect to the dummy image."""
    if not trained_parameters(network):
        yield NOTHING_TO_SHARE
        return
    try:
        with foreign(SystemExit):
            off = slope_error(network, images, batch, labels, torch.float64)
    except ForeignError:  # the model may only accept float32
        try:
            with foreign(SystemExit):
                off = slope_error(network, images, batch, labels, torch.float32)
        except ForeignError as error:
            yield f"expected a model that can be differentiated twice, got {error.short}"
            return
    if off is None:
        yield "expected a model that can be differentiated twice, got a second derivative of zero"
    elif not off <= WORST_SLOPE_ERROR:
        text = "expected a model that can be differentiated twice, got a gradient of the match loss that is"
        yield f"{text} {off:.1%} away from its finite difference"


def slope_error(
    network: nn.Module, images: Images, batch: Tensor, labels: Tensor, dtype: torch.dtype
) -> float | None:
    """The relative error of the gradient of the match loss against finite differences; None if it is zero.

    Autograd silently drops a layer that is differentiable only once; this test detects that. In float32
    differences are too coarse, so only the existence of the gradient is tested. The possible rounding
    error of a difference is subtracted: the slope of a deep sigmoid network can be smaller than that
    error, and then nothing can be concluded.
    """
    copy = deepcopy(network).to(dtype)
    shared = shared_gradient(copy, batch.to(dtype), labels)
    start = Start.draw(Spec(images.shape, images.classes, len(batch)), "check")

    def loss_at(dummy: Tensor) -> Tensor:
        return match_loss(copy, shared, dummy, start.label_logits.to(dtype), create_graph=True)

    dummy = start.images.to(dtype).requires_grad_()
    loss = loss_at(dummy)
    (slope,) = torch.autograd.grad(loss, [dummy])
    steepness = float(slope.norm())
    if steepness == 0:
        return None
    if dtype == torch.float32:
        return 0.0
    rounding = torch.finfo(dtype).eps * float(loss.detach()) / STRIDE
    ways = (torch.randn(batch.shape, generator=generator_for("check", n)).to(dtype) for n in range(3))
    errors = (_finite_difference(loss_at, dummy.detach(), way) - float((slope * way).sum()) for way in ways)
    return max(max(abs(error) - rounding, 0.0) / steepness for error in errors)


def batch_problems(network: nn.Module, images: Images, batch: Tensor, labels: Tensor) -> Iterator[str]:
    """Yield why the batched engine cannot run a network that can be attacked one image at a time."""
    spec = Spec(images.shape, images.classes, len(batch))
    start = Start.draw(spec, "check")
    case = Case(0, network, shared_gradient(deepcopy(network), batch, labels), spec, start=start)
    hint = "change the model, or attack it with `dlg(engine=reference)`"
    try:
        with foreign(SystemExit):
            attack = DLG()
            (candidate,) = attack.candidates(case)
            closure = BatchClosure(attack, case, candidate, slots=2, device=torch.device("cpu"))
            (loss, _), (gradient, _) = closure(candidate.variable.repeat(2, 1))
    except ForeignError as error:
        yield f"expected a model that torch.func can run in a batch, got {error.short}; {hint}"
        return
    alone, slope = match_loss_slope(network, case.shared, start.images, start.label_logits)
    text = "expected a model that gives the same results in a batch, got a match loss"
    if not torch.allclose(loss, alone, rtol=1e-3):
        yield f"{text} of {loss:g} in a batch and of {alone:g} alone; {hint}"
    elif not (gradient - slope).norm() <= WORST_SLOPE_ERROR * slope.norm():
        off = float((gradient - slope).norm() / slope.norm())
        yield f"{text} whose gradient differs by {off:.1%} from the one alone; {hint}"


def _finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, way: Tensor) -> float:
    """The slope of `function` along `way`, by central differences."""
    ahead, behind = (float(function(at + sign * STRIDE * way).detach()) for sign in (1, -1))
    return (ahead - behind) / (2 * STRIDE)
