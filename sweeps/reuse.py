"""Rows that another run has already: equal key, equal result, if versions and hardware are equal."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch

from leakbench.bench.job import Job
from leakbench.core.errors import UserError
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import Table


def reuse(
    table: Table, wanted: Iterable[Job], store: Store, folders: Sequence[Path], hardware: Collection[str]
) -> dict[Path, int]:
    """Take the rows of jobs that the store lacks from other runs; {folder: rows taken}.

    Args:
        table: of these rows.
        wanted: the jobs that are to have one.
        store: where they go; its lock is held.
        folders: of other runs, looked through in this order.
        hardware: on which the rest would be computed: see `hardware_of`.

    Raises:
        UserError: a folder that is no run of this version of the program.
        StoppedError: the rows cannot be written.
    """
    if not folders:
        return {}  # the keys of a large sweep take their time
    missing = {job.key for job in wanted} - store.statuses(table).keys()
    taken = {}
    for folder in folders:
        there = Store.existing(folder).records(table, missing)
        found = [record for record in there if _is_ours(record.row, hardware)]
        if found:
            store.append(found)
            missing -= {record.row["key"] for record in found}
            taken[folder] = len(found)
    return taken


def comparable(folders: Iterable[Path]) -> list[Path]:
    """Those of the folders that are runs of this version of the program."""
    return [folder for folder in folders if _is_run(folder)]


def _is_run(folder: Path) -> bool:
    try:
        Store.existing(folder)
    except UserError:
        return False
    return True


def _is_ours(row: dict[str, object], hardware: Collection[str]) -> bool:
    return row["hardware"] in hardware and row["torch_version"] == torch.__version__
