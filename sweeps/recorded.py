"""Sweeps over what a federation recorded: what they hold, what may be wrong, and who sent each update."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from leakbench.bench.datasets import Recorded
from leakbench.bench.datasets.uploads import Upload
from leakbench.bench.models import Model
from leakbench.bench.recorded import receive
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.federation.defended import gradient_defense
from leakbench.federation.rounds import clients_of
from leakbench.federation.setting import Setting
from leakbench.federation.states import STATISTICS
from leakbench.sweeps.spec import Sweep


def by_protocol(
    everything: Recorded, chosen: Iterable[int] | None = None
) -> Iterator[tuple[Recorded, list[int]]]:
    """The datasets of a sweep over a folder of rounds, each with the indices of its attacked updates.

    There is one dataset for each protocol by which updates were made.

    Args:
        everything: of the folder; an update has as many images as its protocol where no round says how many.
            Its `truth_indices` are of all updates, or of the first one, after which the others follow.
        chosen: numbers of the rounds to attack; None: all.

    Raises:
        UserError: a number that is no round's, or another number of true images than updates.
    """
    uploads = everything.every_upload
    numbers = sorted({each.round for each in uploads if each.round is not None})
    wanted = numbers if chosen is None else list(chosen)
    if missing := [number for number in wanted if number not in numbers]:
        there = ", ".join(map(str, numbers))
        raise UserError(f"--rounds: expected some of {there}, as in {everything.path}, got {missing[0]}")
    made = [each.made_by(everything.examples) for each in uploads]
    firsts = _first_images(everything, [protocol.images for protocol in made])
    for protocol in dict.fromkeys(sorted(made, key=lambda each: each.images)):
        own = [number for number, each in enumerate(made) if each == protocol]
        places = tuple(firsts[number] for number in own if firsts)
        dataset = replace(everything, protocol=str(protocol), truth_indices=places)
        indices = [n * protocol.images for n, number in enumerate(own) if uploads[number].round in wanted]
        if indices:
            yield dataset, indices


def entry_of(dataset: Recorded, indices: list[int]) -> dict[str, Any]:
    """A dataset in a sweep file."""
    values = {each.name: getattr(dataset, each.name) for each in fields(dataset)}
    changed = {name: values[name] for name in values if values[name] != getattr(Recorded, name)}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}
    return {"name": dataset.name, **lists, "indices": indices}


def _first_images(everything: Recorded, counts: list[int]) -> list[int]:
    """The index of the first true image of each update."""
    firsts = list(everything.truth_indices)
    if len(firsts) == 1:
        firsts += (firsts[0] + sum(counts[:number]) for number in range(1, len(counts)))
    if firsts and len(firsts) != len(counts):
        text = f"expected one number, or {len(counts)}, one for each update of {everything.path}"
        raise UserError(f"--index: {text}, got {len(firsts)}")
    return firsts


def recorded_problems(dataset: Recorded, indices: tuple[int, ...], sweep: Sweep) -> Iterator[str]:
    """What is wrong with recorded updates as gradients of the sweep's models, and with what is done to them.

    Each text follows the place of the dataset.
    """
    protocols = [protocol.value for protocol in sweep.protocols]
    if not any(map(dataset.is_shared_by, protocols)):
        expected = f"expected {dataset.made_by} among the protocols, as its `protocol` says"
        yield f": {expected}, got {', '.join(map(str, protocols))}"
    if between := [index for index in indices if index % dataset.examples]:
        text = f"expected multiples of {dataset.examples}, the {dataset.modality.name} behind each update"
        yield f".indices: {text}, got {between[0]}"
    for choice in sweep.defenses:
        try:
            gradient_defense(choice.value)
        except UserError as error:
            yield from (f": {problem}" for problem in error.problems)
    uploads = [dataset.upload_at(index) for index in indices]
    for model in sweep.models:
        problems, _ = received_problems(dataset, uploads, model.value)
        yield from (f": {problem}" for problem in problems)


def received_problems(
    dataset: Recorded, uploads: Iterable[Upload], model: Model
) -> tuple[list[str], list[str]]:
    """What keeps recorded updates from being gradients of a model; and the buffers that came with them."""
    name = dataset.modality.name
    if model.modality not in (None, dataset.modality):
        return [f"{model}: expected a model of {name}, got one of {model.modality.name}"], []
    problems: dict[str, None] = {}
    ignored: dict[str, None] = {}
    for upload in uploads:
        try:
            with foreign(UserError, SettingError, SystemExit):
                network = model.build(dataset.input_shape, dataset.classes, 0)
            ignored |= dict.fromkeys(receive(dataset, upload, network).ignored)
        except (UserError, SettingError) as error:
            lines = error.problems if isinstance(error, UserError) else [str(error)]
            problems |= dict.fromkeys(lines)
        except ForeignError as error:
            size = "x".join(map(str, dataset.input_shape))
            return [f"{model}: expected a model that takes {name} of {size}, got {error.short}"], []
    return list(problems), list(ignored)


def recorded_in(sweep: Sweep) -> list[dict[str, Any]]:
    """Who sent each update that a sweep attacks, and what is to be kept in mind: for the run's manifest."""
    return [
        {
            "dataset": str(data.value),
            "caveats": list(caveats(data.value)),
            "updates": [
                {"index": index, "round": each.round, "client": each.client, "images": data.value.examples}
                for index, each in ((index, data.value.upload_at(index)) for index in data.indices)
            ],
        }
        for data in sweep.datasets
        if isinstance(data.value, Recorded)
    ]


def _uneven(dataset: Recorded, setting: Setting) -> Iterator[str]:
    batch, count = setting.local_batch, dataset.examples
    if batch is not None and (setting.local_steps or 1) > 1 and batch < count and count % batch:
        text = f"{count} {dataset.modality.name} do not divide into batches of {batch}"
        yield f"{text}; the attacks use all of them in every step"


def caveats(dataset: Recorded) -> Iterator[str]:
    """What may keep the updates from being gradients at the weights that the server sent, each once."""
    found: dict[str, None] = {}
    for path in dict.fromkeys(each.path for each in dataset.uploads if each.round is not None):
        setting, _ = clients_of(path)
        found |= dict.fromkeys(setting.caveats())
        found |= dict.fromkeys(_uneven(dataset, setting))
        if any(name.rpartition(".")[2] in STATISTICS for name in setting.buffers or ()):
            text = "the attacks compute gradients with the statistics that were sent"
            found[f"{text}; clients that train with those of their batches have others"] = None
    yield from found
