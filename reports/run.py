"""A finished run as reports read it."""

from functools import cached_property

import pandas as pd

from leakbench.bench.datasets import Recorded
from leakbench.reports.recorded import Update, updates_of
from leakbench.reports.setting import Setting, settings_of
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS


class Run:
    """The tables and settings of a run, each read and computed once.

    Args:
        store: the run's store, which must not change meanwhile.
    """

    def __init__(self, store: Store):
        self.store = store
        self.manifest = store.manifest()
        self.scale = store.scale

    @cached_property
    def rows(self) -> pd.DataFrame:
        """See `Store.rows`."""
        return self.store.rows()

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """See `Store.rows`."""
        return self.store.rows(TRAININGS)

    @cached_property
    def indices(self) -> pd.DataFrame:
        """See `Store.index_rows`."""
        return self.store.index_rows()

    @cached_property
    def settings(self) -> list[Setting]:
        """Each simulated dataset, model and protocol of the run, in the order of the rows."""
        simulated = self.rows[self.rows["dataset_name"] != Recorded.name]
        return list(settings_of(simulated, self.scale, self.trainings, self.store.histories))

    @cached_property
    def updates(self) -> list[Update]:
        """What the attacks made of recorded updates, in the order of the rounds."""
        recorded = self.rows[self.rows["dataset_name"] == Recorded.name]
        return list(updates_of(recorded, self.manifest.get("recorded", []), self.scale, self.store))
