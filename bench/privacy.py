"""Differential privacy: the epsilon of a training that bounds each example's gradient and adds noise."""

from functools import cache
from importlib.util import find_spec
from math import inf

DELTA = 1e-5  # as in Abadi et al. 2016


def can_account() -> bool:
    """Whether dp-accounting is installed, which works epsilon out."""
    return find_spec("dp_accounting") is not None


@cache
def epsilon_of(noise_multiplier: float, sampling_rate: float, steps: int, delta: float = DELTA) -> float:
    """The epsilon of DP-SGD towards a server that sees every client's update; infinite without noise.

    Renyi accounting of the subsampled Gaussian mechanism (Mironov, Talwar and Zhang 2019). As in Opacus and
    TensorFlow Privacy it holds for one example added or removed, and for examples that are drawn
    independently at every step. A training goes through shuffled examples instead; it is treated as if
    it drew them.

    Args:
        noise_multiplier: see `Defense.multiplier`.
        sampling_rate: the share of all examples that take part in a step.
        steps: of the optimiser.
        delta: the probability with which the guarantee may fail.

    Raises:
        ImportError: dp-accounting is not installed, see `can_account`.
    """
    if not steps:
        return 0.0
    if not noise_multiplier:
        return inf
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant()
    accountant.compose(PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise_multiplier)), steps)
    return float(accountant.get_epsilon(delta))
