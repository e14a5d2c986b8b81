"""Which attacks of a sweep do not apply to which of its networks and protocols, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from leakbench.bench.attacks import Attack, Case, Knows
from leakbench.bench.before_draws import as_attacked
from leakbench.bench.datasets import Dataset, Recorded, open_dataset
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.models import Model
from leakbench.bench.protocols import Protocol
from leakbench.bench.trial import spec_of
from leakbench.bench.victim import with_layers
from leakbench.core.foreign import ForeignError, foreign
from leakbench.defenses import Defense, Point
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
        f"{each.attack.place}: {each.attack.value} on {each.model} and {each.dataset}: {each.text}"
        for each in found
        if not sweep.suite and each.always
    ]
    if problems:
        return sweep, list(dict.fromkeys(problems))
    refused = {meeting: each.text for each in found for meeting in each.meetings}
    notices = dict.fromkeys(str(each) for each in found)
    rest = replace(sweep, refused=refused, notices=(*sweep.notices, *notices))
    if found and not rest.size:
        text = f"expected an attack that applies, found none: {found[0].attack.value}: {found[0].text}"
        return sweep, [f"suite: {text}"]
    return rest, []


class Refusal(NamedTuple):
    """Why an attack does not apply to a network, under some defenses."""

    attack: Choice[Attack]
    dataset: Dataset
    model: Model
    protocol: Protocol
    defenses: tuple[Defense, ...]
    always: bool  # whether these are all that leave the model alone
    text: str

    def __str__(self) -> str:
        named = "" if self.always else f" with {', '.join(map(str, self.defenses))}"
        return f"{self.attack.value} is skipped on {self.model}{named}: {self.text}"

    @property
    def meetings(self) -> list[Meeting]:
        """What is skipped."""
        what = self.attack.value, self.dataset, self.model, self.protocol
        return [Meeting.of(*what, defense) for defense in self.defenses]


def _refusals(sweep: Sweep, datasets: Sequence[Choice[Dataset]], data_root: Path) -> Iterator[Refusal]:
    seed = sweep.model_seeds[0]
    for data, model in product(datasets, sweep.models):
        images = open_dataset(data.value, data_root)
        plain = model.value.build(images.shape, images.classes, seed)
        protocols = [each for each in sweep.protocols if data.value.is_shared_by(each.value)]
        for group, protocol in product(share_a_network(sweep.defenses), protocols):
            first = group[0].value
            network = with_layers(first, plain, model.value.address, seed).eval()
            zeros = {name: torch.zeros_like(each) for name, each in trained_parameters(network)}
            spec = spec_of(images, protocol.value, model.value)
            for attack in sweep.attacks:
                whole = Case(0, network, zeros, spec, protocol=protocol.value)
                case = as_attacked(whole, attack.value, first)
                text = untold(attack.value, data.value, model.value) or refusal(attack.value, case)
                what = attack, data.value, model.value, protocol.value
                yield from (Refusal(*what, *each) for each in _by_defense(attack.value, case, group, text))


def _by_defense(
    attack: Attack, case: Case, group: Sequence[Choice[Defense]], text: str
) -> Iterator[tuple[tuple[Defense, ...], bool, str]]:
    """Of defenses that share a network: those that an attack is refused under, if these are all, and why."""
    why: dict[str, list[Defense]] = {}
    for each in group:
        why.setdefault(text or refusal(attack, case, each.value), []).append(each.value)
    always = len(why) == 1 and Point.MODEL not in group[0].value.points()
    yield from ((tuple(defenses), always, reason) for reason, defenses in why.items() if reason)


def untold(attack: Attack, dataset: Dataset, model: Model) -> str:
    """What an attack has to be told of recorded updates and nobody knows; empty if there is nothing."""
    if not isinstance(dataset, Recorded):
        return ""
    unknown = set() if dataset.truth else {Knows.LABELS, Knows.LENGTH}
    if model.masked:
        unknown.add(Knows.LABELS)  # nobody recorded which words were hidden
    missing = " and ".join(sorted(attack.knows & unknown))
    return f"it has to be told what is not known of a recorded update: {missing}" if missing else ""


def refusal(attack: Attack, example: Case, defense: Defense | None = None) -> str:
    """Why an attack cannot take such cases, or not under that defense; empty if it can."""
    if attack.modality is not example.spec.modality:
        return f"expected {attack.modality.name}, got {example.spec.modality.name}"
    try:
        with foreign(SystemExit):
            return attack.refusal(example) if defense is None else attack.refusal_under(defense, example)
    except ForeignError as error:
        return f"its `refusal` failed: {error.short}"
