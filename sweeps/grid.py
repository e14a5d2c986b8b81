"""From a sweep to its trials."""

from collections.abc import Iterator
from itertools import product

from bench.trial import Trial
from sweeps.spec import Sweep


def trials(sweep: Sweep) -> Iterator[Trial]:
    """Every trial of the sweep, all defenses of one image and start after one another."""
    for data in sweep.datasets:
        for index, model, model_seed, attack, start, defense in product(
            data.indices,
            sweep.models,
            sweep.model_seeds,
            sweep.attacks,
            range(sweep.restarts),
            sweep.defenses,
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
