"""One dataset, model and protocol of a run."""

from collections.abc import Iterator
from functools import cached_property

import pandas as pd

from leakbench.bench.verdicts import Scale
from leakbench.reports.alone import attacks_alone
from leakbench.reports.flags import Histories, Raised, raised
from leakbench.reports.leaderboard import board
from leakbench.reports.selection import SETTING, judged, kept_starts
from leakbench.reports.summary import summary


class Setting:
    """Tables that several reports need, each computed once.

    Args:
        rows: rows of that one dataset, model and protocol.
        scale: what counts as a leak.
        trainings: training rows of that model and protocol; may be empty.
        histories: see `Store.histories`.
    """

    def __init__(self, rows: pd.DataFrame, scale: Scale, trainings: pd.DataFrame, histories: Histories):
        self.rows, self.scale, self.trainings, self.histories = rows, scale, trainings, histories

    @cached_property
    def several(self) -> bool:
        """Whether there is more than one attack."""
        return self.rows["attack"].nunique() > 1

    @cached_property
    def kept(self) -> pd.DataFrame:
        """See `kept_starts`."""
        return kept_starts(self.rows)

    @cached_property
    def best(self) -> pd.DataFrame:
        """See `strongest`."""
        return judged(self.kept, self.scale)

    @cached_property
    def lines(self) -> pd.DataFrame:
        """See `summarize`."""
        return summary(self.rows, self.kept, self.best, self.scale)

    @cached_property
    def board(self) -> pd.DataFrame:
        """See `leaderboard`."""
        return board(self.lines, self.rows, self.trainings, self.scale)

    @cached_property
    def alone(self) -> pd.DataFrame:
        """See `attacks_alone`."""
        return attacks_alone(self.rows, self.kept, self.best, self.scale)

    @cached_property
    def raised(self) -> list[Raised]:
        """See `flags`."""
        return raised(self.rows, self.best, self.lines, self.scale, self.histories)


def settings_of(
    rows: pd.DataFrame, scale: Scale, trainings: pd.DataFrame, histories: Histories
) -> Iterator[Setting]:
    """Each dataset, model and protocol of these rows, with the trainings of its model and protocol."""
    for (_, model, protocol), own in rows.groupby(SETTING, sort=False):
        alike = (trainings["model"] == model) & (trainings["protocol"] == protocol)
        yield Setting(own, scale, trainings[alike], histories)
