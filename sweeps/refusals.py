"""Which attacks of a sweep do not apply to which of its networks and protocols, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from leakbench.bench.attacks import Attack, Case, Knows
from leakbench.bench.before_draws import as_attacked
from leakbench.bench.datasets import Dataset, Recorded, open_dataset
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.models import Model
from leakbench.bench.trial import spec_of
from leakbench.bench.victim import with_layers
from leakbench.core.foreign import ForeignError, foreign
from leakbench.defenses import Defense
from leakbench.sweeps.grid import share_a_network
from leakbench.sweeps.spec import Choice, Meeting, Sweep


def without_refused(
    sweep: Sweep, datasets: Sequence[Choice[Dataset]], data_root: Path
) -> tuple[Sweep, list[str]]:
    """The sweep without trials whose attack does not apply, each with a notice.

    Where no suite chose the attacks, one that does not apply whatever the defense is a problem.

    Args:
        sweep: a sweep without other problems.
        datasets: those of its datasets that need no download.
        data_root: their folder.
    """
    found = list(_refusals(sweep, datasets, data_root))
    problems = [
        f"{attack.place}: {meeting.attack} on {meeting.model} and {meeting.dataset}: {text}"
        for attack, meeting, text in found
        if not sweep.suite and not meeting.defense
    ]
    if problems:
        return sweep, list(dict.fromkeys(problems))
    notices = (
        f"{meeting.attack} is skipped on {meeting.model}"
        f"{' with ' + meeting.defense if meeting.defense else ''}: {text}"
        for _, meeting, text in found
    )
    refused = {meeting: text for _, meeting, text in found}
    rest = replace(sweep, refused=refused, notices=(*sweep.notices, *dict.fromkeys(notices)))
    if found and not rest.size:
        _, meeting, text = found[0]
        return sweep, [f"suite: expected an attack that applies, found none: {meeting.attack}: {text}"]
    return rest, []


def _refusals(
    sweep: Sweep, datasets: Sequence[Choice[Dataset]], data_root: Path
) -> Iterator[tuple[Choice[Attack], Meeting, str]]:
    seed = sweep.model_seeds[0]
    networks: list[Choice[Defense]] = [group[0] for group in share_a_network(sweep.defenses)]
    for data, model in product(datasets, sweep.models):
        images = open_dataset(data.value, data_root)
        plain = model.value.build(images.shape, images.classes, seed)
        protocols = [each for each in sweep.protocols if data.value.is_shared_by(each.value)]
        for defense, protocol in product(networks, protocols):
            network = with_layers(defense.value, plain, model.value.address, seed).eval()
            zeros = {name: torch.zeros_like(each) for name, each in trained_parameters(network)}
            spec = spec_of(images, protocol.value, model.value)
            for attack in sweep.attacks:
                whole = Case(0, network, zeros, spec, protocol=protocol.value)
                case = as_attacked(whole, attack.value, defense.value)
                text = untold(attack.value, data.value, model.value) or refusal(attack.value, case)
                if text:
                    what = attack.value, data.value, model.value, protocol.value, defense.value
                    yield attack, Meeting.of(*what), text


def untold(attack: Attack, dataset: Dataset, model: Model) -> str:
    """What an attack has to be told of recorded updates and nobody knows; empty if there is nothing."""
    if not isinstance(dataset, Recorded):
        return ""
    unknown = set() if dataset.truth else {Knows.LABELS, Knows.LENGTH}
    if model.masked:
        unknown.add(Knows.LABELS)  # nobody recorded which words were hidden
    missing = " and ".join(sorted(attack.knows & unknown))
    return f"it has to be told what is not known of a recorded update: {missing}" if missing else ""


def refusal(attack: Attack, example: Case) -> str:
    """Why an attack cannot take such cases; empty if it can."""
    if attack.modality is not example.spec.modality:
        return f"expected {attack.modality.name}, got {example.spec.modality.name}"
    try:
        with foreign(SystemExit):
            return attack.refusal(example)
    except ForeignError as error:
        return f"its `refusal` failed: {error.short}"
