"""Checks that need the data and the models, before any attack starts."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.attackable import model_problems
from leakbench.bench.datasets import Dataset, Recorded, Source, Texts, open_dataset
from leakbench.bench.datasets.standard import Standard
from leakbench.bench.metrics import SSIM_WINDOW
from leakbench.bench.modalities import IMAGES
from leakbench.bench.models import Model
from leakbench.bench.victim import with_layers
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.core.randomness import generator_for
from leakbench.defenses import Defense, Point
from leakbench.sweeps.recorded import recorded_problems
from leakbench.sweeps.refusals import without_refused
from leakbench.sweeps.spec import Changes, Choice, Sweep
from leakbench.sweeps.sweep_file import read_sweep


def load_sweep(
    file: Path,
    data_root: Path,
    download: bool = True,
    changes: Changes = Changes(),  # noqa: B008  # frozen
) -> Sweep:
    """The sweep of a YAML file, with its data opened and its models tried.

    Args:
        file: the sweep file.
        data_root: folder of the datasets that are not bundled with the project.
        download: whether datasets with `download: true` are fetched, once nothing else is wrong.
        changes: changes to the file.

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


def to_download(sweep: Sweep, data_root: Path) -> list[str]:
    """The names of the sweep's datasets that have to be fetched before they can be read."""
    at_hand = _at_hand(data_root)
    return [str(data.value) for data in sweep.datasets if not at_hand(data)]


def _at_hand(data_root: Path) -> Callable[[Choice[Dataset]], bool]:
    """A test that is true for datasets that need no download."""

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
    """What is wrong with the sweep's images and models, one line each; every image is read."""
    problems = []
    opened: list[tuple[str, Source, Tensor, Tensor]] = []
    for data in sweep.datasets:
        protocols = filter(data.value.is_shared_by, (each.value for each in sweep.protocols))
        together = max((each.images for each in protocols), default=1)
        try:
            source = open_dataset(data.value, data_root)
        except SettingError as error:
            problems += [f"{data.place}: {text}" for _, text in error.problems]
            continue
        found = list(example_problems(source, data.indices, together))
        if isinstance(data.value, Recorded) and not found:
            found += recorded_problems(data.value, data.indices, sweep)
        problems += [f"{data.place}{text}" for text in found]
        if not found and data.indices:
            own = range(data.indices[0], data.indices[0] + together)
            examples = source.batch(own) if source.known else _any(source, own)
            opened.append((str(data.value), source, *examples))
    problems += [
        f"{choice.place}: {choice.value}: {text}"
        for choice in sweep.defenses
        for text in defense_problems(choice.value)
    ]
    batched = any(attack.value.in_lock_step for attack in sweep.attacks)
    seed = sweep.model_seeds[0] if sweep.model_seeds else 0
    for model, (name, source, batch, labels) in product(sweep.models, opened):
        tried = partial(model_problems, model.value, source, batch, labels, batched)
        found = list(tried(partial(model.value.build, source.shape, source.classes, seed)))
        problems += [f"{model.place}: {model.value} on {name}: {text}" for text in found]
        for choice in () if found else sweep.defenses:
            if Point.MODEL in choice.value.points():
                found = list(tried(partial(_build_under, choice.value, model.value, source, seed)))
                place = f"{choice.place}: {choice.value} in {model.value} on {name}"
                problems += [f"{place}: {text}" for text in found]
    return problems


def _any(source: Source, own: range) -> tuple[Tensor, Tensor]:
    """Examples of that size, and labels, to try a model with where the true ones are unknown."""
    labels = torch.zeros(len(own), dtype=torch.long)
    if isinstance(source, Texts):
        return torch.full((len(own), source.longest), source.vocabulary.unknown), labels
    return torch.rand((len(own), *source.shape), generator=generator_for("check")), labels


def _build_under(defense: Defense, model: Model, source: Source, seed: int) -> nn.Module:
    network = model.build(source.shape, source.classes, seed)
    return with_layers(defense, network, model.address, seed).eval()


def defense_problems(defense: Defense) -> Iterator[str]:
    """What is wrong with how a user's defense describes itself."""
    try:
        with foreign(SystemExit):
            strength, family = defense.strength, defense.own_family
    except ForeignError as error:
        yield f"its strength cannot be read: {error.short}"
        return
    if strength is not None and type(strength) not in (int, float):
        yield f"expected a strength that is a number, got {strength!r}"
    if not isinstance(family, str):
        yield f"expected a family that is text, got {family!r}"


def example_problems(source: Source, indices: tuple[int, ...], together: int) -> Iterator[str]:
    """What is wrong with the chosen examples; each text follows directly after the dataset's place."""
    one, several = source.modality.one, source.modality.name
    last = len(source) - together  # a gradient also covers the examples after it
    outside = [index for index in indices if not 0 <= index <= last]
    if last < 0:
        yield f": expected {together} {several} or more, as batch_size requires, got {len(source)}"
    elif outside:
        reason = f" (batch_size {together} takes the {several} after it, too)" if together > 1 else ""
        yield f".indices: expected 0..{last}{reason}, got {outside[0]}"
    if source.modality is IMAGES and min(source.shape[1:]) < SSIM_WINDOW:
        size = "x".join(map(str, source.shape[1:]))
        least = f"{SSIM_WINDOW}x{SSIM_WINDOW}"
        yield f": expected images of {least} pixels or more (the window of SSIM), got {size}"
    for index in dict.fromkeys(index + after for index in indices for after in range(together)):
        if 0 <= index < len(source) and source.known:
            try:
                with foreign(SettingError, SystemExit):
                    source[index]
            except SettingError as error:
                yield f".indices: {error.problems[0][1]}"
            except ForeignError as error:
                yield f".indices: {one} {index} cannot be read: {error.short}"
