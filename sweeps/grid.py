"""From a sweep to its trials."""

from collections.abc import Iterator
from itertools import product

from bench.trial import Trial
from sweeps.spec import Sweep


def trials(sweep: Sweep) -> Iterator[Trial]:
    """Every trial of the sweep: those that can share a batch, then all defenses of one image and start."""
    for data, model, attack in product(sweep.datasets, sweep.models, sweep.attacks):
        for index, model_seed, start, defense in product(
            data.indices, sweep.model_seeds, range(sweep.restarts), sweep.defenses
        ):
            yield Trial(
                dataset=data.value,
                index=index,
                model=model.value,
                model_seed=model_seed,
                attack=attack.value,
                defense=defense.value,
                start=start,
            )
