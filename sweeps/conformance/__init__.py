"""The checks that `leakbench check` makes on a plug-in, one file per kind."""

from collections.abc import Iterator
from pathlib import Path

from leakbench.bench.attacks import Attack
from leakbench.bench.datasets import Dataset
from leakbench.bench.models import Model
from leakbench.bench.protocols import Protocol
from leakbench.core.configured import Configured
from leakbench.defenses import Defense
from leakbench.sweeps.conformance import attacks, datasets, defenses, models, protocols
from leakbench.sweeps.conformance.base import Finding
from leakbench.sweeps.conformance.plugins import defenses_in, plugins_in

__all__ = ["Finding", "defenses_in", "findings_of", "plugins_in"]


def findings_of(plugin: Configured, data_root: Path) -> Iterator[Finding]:
    """Every check of a plug-in, one after the other; datasets are looked for under the data root."""
    match plugin:
        case Defense():
            return defenses.findings(plugin)
        case Attack():
            return attacks.findings(plugin)
        case Dataset():
            return datasets.findings(plugin, data_root)
        case Model():
            return models.findings(plugin)
        case Protocol():
            return protocols.findings(plugin)
    raise TypeError(f"expected a plug-in of a kind that is checked, got {plugin!r}")
