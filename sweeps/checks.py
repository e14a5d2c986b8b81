"""What can only be checked with the data and the models at hand, before any attack starts."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import Case, Spec, Start
from leakbench.bench.attacks.closure import BatchClosure
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.datasets import Dataset, Images, open_dataset
from leakbench.bench.datasets.standard import Standard
from leakbench.bench.gradients import match_loss, match_loss_slope, shared_gradient, trained_parameters
from leakbench.bench.metrics import SSIM_WINDOW
from leakbench.bench.models import Model
from leakbench.bench.victim import with_layers
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.randomness import generator_for
from leakbench.defenses import Defense, Point
from leakbench.sweeps.refusals import without_refused
from leakbench.sweeps.spec import Changes, Choice, Sweep, read_sweep

STRIDE = 1e-6  # of the finite difference, in float64 and in pixels
WORST_SLOPE_ERROR = 0.05  # a few ReLUs may change sides within a stride
LONGEST = 300  # characters of what foreign code raised


def load_sweep(
    file: Path,
    data_root: Path,
    download: bool = True,
    changes: Changes = Changes(),  # noqa: B008  # frozen
) -> Sweep:
    """The sweep of a YAML file, with its data opened and its models tried.

    Args:
        file: the sweep file.
        data_root: where data sets lie that do not come with the project.
        download: whether data sets that ask for it are fetched, once nothing else is wrong.
        changes: what is asked for beside the file.

    Raises:
        UserError: with a line `FILE: PLACE: expected ..., got ...` for every problem.
    """
    sweep, problems = read_sweep(file, changes)
    at_hand = tuple(filter(_at_hand(data_root), sweep.datasets))
    problems += check(replace(sweep, datasets=at_hand), data_root)
    if not problems and download and at_hand != sweep.datasets:
        problems = check(sweep, data_root)
    if not problems:
        ready = sweep.datasets if download else at_hand
        sweep, problems = without_refused(sweep, ready, data_root)
    if problems:
        raise UserError(*(f"{file}: {problem}" for problem in problems))
    return sweep


def _at_hand(data_root: Path) -> Callable[[Choice[Dataset]], bool]:
    """Tells the data sets that still have to be downloaded from all others."""

    def at_hand(data: Choice[Dataset]) -> bool:
        if not (isinstance(data.value, Standard) and data.value.download):
            return True
        try:
            replace(data.value, download=False).open(data_root)
        except SettingError:
            return False
        return True

    return at_hand


def check(sweep: Sweep, data_root: Path) -> list[str]:
    """What is wrong with the sweep's images and models, a line each; every image is read."""
    problems = []
    together = max((protocol.value.batch_size for protocol in sweep.protocols), default=1)
    opened: list[tuple[str, Images, Tensor, Tensor]] = []
    for data in sweep.datasets:
        try:
            images = open_dataset(data.value, data_root)
        except SettingError as error:
            problems += [f"{data.place}: {text}" for _, text in error.problems]
            continue
        found = list(image_problems(images, data.indices, together))
        problems += [f"{data.place}{text}" for text in found]
        if not found and data.indices:
            own = range(data.indices[0], data.indices[0] + together)
            opened.append((str(data.value), images, *images.batch(own)))
    problems += [
        f"{choice.place}: {choice.value}: {text}"
        for choice in sweep.defenses
        for text in defense_problems(choice.value)
    ]
    batched = any(attack.value.in_lock_step for attack in sweep.attacks)
    seed = sweep.model_seeds[0] if sweep.model_seeds else 0
    for model, (name, images, batch, labels) in product(sweep.models, opened):
        build = partial(model.value.build, images.shape, images.classes, seed)
        found = list(model_problems(build, images, batch, labels, batched))
        problems += [f"{model.place}: {model.value} on {name}: {text}" for text in found]
        for choice in () if found else sweep.defenses:
            if Point.MODEL in choice.value.points():
                build = partial(_build_under, choice.value, model.value, images, seed)
                found = list(model_problems(build, images, batch, labels, batched))
                place = f"{choice.place}: {choice.value} in {model.value} on {name}"
                problems += [f"{place}: {text}" for text in found]
    return problems


def _build_under(defense: Defense, model: Model, images: Images, seed: int) -> nn.Module:
    network = model.build(images.shape, images.classes, seed)
    return with_layers(defense, network, model.address, seed).eval()


def defense_problems(defense: Defense) -> Iterator[str]:
    """What is wrong with how a user's defense describes itself."""
    try:
        with foreign(SystemExit):
            strength, family = defense.strength, defense.family
    except ForeignError as error:
        yield f"its strength cannot be asked: {str(error)[:LONGEST]}"
        return
    if strength is not None and type(strength) not in (int, float):
        yield f"expected a strength that is a number, got {strength!r}"
    if not isinstance(family, str):
        yield f"expected a family that is text, got {family!r}"


def image_problems(images: Images, indices: tuple[int, ...], together: int) -> Iterator[str]:
    """What is wrong with the chosen images; each text goes right behind the data set's place."""
    last = len(images) - together  # its gradient is also of those after it
    outside = [index for index in indices if index > last]
    if last < 0:
        yield f": expected {together} images or more, as batch_size asks for, got {len(images)}"
    elif outside:
        reason = f" (batch_size {together} takes those after it, too)" if together > 1 else ""
        yield f".indices: expected 0..{last}{reason}, got {outside[0]}"
    if min(images.shape[1:]) < SSIM_WINDOW:
        size = "x".join(map(str, images.shape[1:]))
        least = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        yield f": expected images of {least} pixels or more (the window of SSIM), got {size}"
    for index in dict.fromkeys(index + after for index in indices for after in range(together)):
        if index < len(images):
            try:
                with foreign(SettingError, SystemExit):
                    images[index]
            except SettingError as error:
                yield f".indices: {error.problems[0][1]}"
            except ForeignError as error:
                yield f".indices: image {index} cannot be read: {str(error)[:LONGEST]}"


def model_problems(
    build: Callable[[], nn.Module], images: Images, batch: Tensor, labels: Tensor, batched: bool
) -> Iterator[str]:
    """Why a network cannot be attacked through its gradients of such a batch of images."""
    try:
        with foreign(SettingError, SystemExit):
            network = build()
            scores = deepcopy(network)(batch)  # a model may keep what passed through it
    except SettingError as error:
        yield error.problems[0][1]
        return
    except ForeignError as error:
        size = "x".join(map(str, images.shape))
        yield f"expected to take an image of {size}, got {str(error)[:LONGEST]}"
        return
    if not isinstance(scores, Tensor) or scores.shape != (len(batch), images.classes):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        yield f"expected class scores of shape ({len(batch)}, {images.classes}), got {got}"
        return
    if not scores.isfinite().all():
        yield "expected finite class scores, got NaN or infinity"
        return
    found = list(differentiation_problems(network, images, batch, labels))
    yield from found
    if batched and not found:
        yield from batch_problems(network, images, batch, labels)


def differentiation_problems(
    network: nn.Module, images: Images, batch: Tensor, labels: Tensor
) -> Iterator[str]:
    """Why the match loss has no gradient in the dummy image, or not the right one."""
    if not trained_parameters(network):
        yield "expected parameters that require a gradient, got none"
        return
    try:
        with foreign(SystemExit):
            off = slope_error(network, images, batch, labels, torch.float64)
    except ForeignError:  # it may be made for float32
        try:
            with foreign(SystemExit):
                off = slope_error(network, images, batch, labels, torch.float32)
        except ForeignError as error:
            yield f"expected a model that can be differentiated twice, got {str(error)[:LONGEST]}"
            return
    if off is None:
        yield "expected a model that can be differentiated twice, got a second derivative of zero"
    elif not off <= WORST_SLOPE_ERROR:
        text = "expected a model that can be differentiated twice, got a gradient of the match loss that is"
        yield f"{text} {off:.1%} off its finite difference"


def slope_error(
    network: nn.Module, images: Images, batch: Tensor, labels: Tensor, dtype: torch.dtype
) -> float | None:
    """How far the gradient of the match loss is off its finite difference; None where it is zero.

    A layer that is differentiable only once is dropped by autograd without an error: that shows
    here. In float32 differences are too coarse, and only that the gradient exists is found out.
    What rounding may add to a difference does not count: the slope of a deep sigmoid network can be
    smaller than that, and then nothing can be said.
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
    """Why the batched engine cannot take the network, though one at a time it can be attacked."""
    spec = Spec(images.shape, images.classes, len(batch))
    start = Start.draw(spec, "check")
    case = Case(0, network, shared_gradient(deepcopy(network), batch, labels), spec, start=start)
    hint = "or set `engine: reference` on the attack"
    try:
        with foreign(SystemExit):
            attack = DLG()
            (candidate,) = attack.candidates(case)
            closure = BatchClosure(attack, case, candidate, slots=2, device=torch.device("cpu"))
            (loss, _), (gradient, _) = closure(candidate.variable.repeat(2, 1))
    except ForeignError as error:
        yield f"expected a model that torch.func can run in a batch, got {str(error)[:LONGEST]}; {hint}"
        return
    alone, slope = match_loss_slope(network, case.shared, start.images, start.label_logits)
    text = "expected a model that gives the same in a batch, got a match loss"
    if not torch.allclose(loss, alone, rtol=1e-3):
        yield f"{text} of {loss:g} in it and of {alone:g} alone; {hint}"
    elif not (gradient - slope).norm() <= WORST_SLOPE_ERROR * slope.norm():
        off = float((gradient - slope).norm() / slope.norm())
        yield f"{text} whose gradient is {off:.1%} off what it is alone; {hint}"


def _finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, way: Tensor) -> float:
    """The slope of `function` along `way`, by central differences."""
    ahead, behind = (float(function(at + sign * STRIDE * way).detach()) for sign in (1, -1))
    return (ahead - behind) / (2 * STRIDE)
