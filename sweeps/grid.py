"""From a sweep to its trials."""

from collections.abc import Iterator, Sequence
from itertools import product

from leakbench.bench.trial import Trial
from leakbench.defenses import Defense, Point
from leakbench.sweeps.spec import Choice, Sweep


def trials(sweep: Sweep) -> Iterator[Trial]:
    """Every trial of the sweep: those that can share a batch, then all defenses of one image and start."""
    alike = share_a_network(sweep.defenses)
    for data, model, protocol, attack, defenses in product(
        sweep.datasets, sweep.models, sweep.protocols, sweep.attacks, alike
    ):
        if not data.value.is_shared_by(protocol.value):
            continue
        what = attack.value, data.value, model.value, protocol.value
        taken = [each for each in defenses if sweep.takes(*what, each.value)]
        for index, model_seed, start, defense in product(
            data.indices, sweep.model_seeds, range(sweep.restarts), taken
        ):
            yield Trial(
                dataset=data.value,
                index=index,
                model=model.value,
                model_seed=model_seed,
                protocol=protocol.value,
                attack=attack.value,
                defense=defense.value,
                start=start,
            )


def share_a_network(defenses: Sequence[Choice[Defense]]) -> list[list[Choice[Defense]]]:
    """Those that leave the model alone together, each of the others by itself."""
    others = [choice for choice in defenses if Point.MODEL in choice.value.points()]
    together = [choice for choice in defenses if choice not in others]
    return [each for each in (together, *([choice] for choice in others)) if each]
