"""Rows that another run has already: equal key, equal result, if versions and hardware are equal."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from leakbench.core.errors import UserError
from leakbench.sweeps.grid import trials
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.store import Store
from leakbench.sweeps.training import course_of, trainings_of

T = TypeVar("T")


def reuse_trials(
    sweep: Sweep, store: Store, folders: Sequence[Path], hardware: Collection[str]
) -> dict[Path, int]:
    """Take what the sweep asks for and the store lacks from other runs; {folder: rows taken}.

    Args:
        sweep: what is to be there.
        store: where it goes; its lock is held.
        folders: of other runs, looked through in this order.
        hardware: on which the sweep would compute the rest: see `hardware_of`.

    Raises:
        UserError: a folder that is no run of this version of the program.
        StoppedError: the rows cannot be written.
    """
    if not folders:
        return {}  # the keys of a large sweep take their time
    missing = {trial.key for trial in trials(sweep)} - store.statuses().keys()
    return _take(folders, missing, hardware, Store.records, lambda record: record.row, store.append)


def reuse_trainings(
    sweep: Sweep, store: Store, folders: Sequence[Path], hardware: Collection[str]
) -> dict[Path, int]:
    """The same for trainings; what has to leave checkpoints is trained."""
    if not folders or course_of(sweep).checkpoints:
        return {}
    missing = {training.key for training in trainings_of(sweep)} - store.trained()
    return _take(folders, missing, hardware, Store.training_records, lambda row: row, store.append_trainings)


def _take(
    folders: Sequence[Path],
    missing: set[str],
    hardware: Collection[str],
    find: Callable[[Store, set[str]], list[T]],
    row_of: Callable[[T], dict[str, Any]],
    append: Callable[[list[T]], None],
) -> dict[Path, int]:
    taken = {}
    for folder in folders:
        found = [each for each in find(Store.existing(folder), missing) if _is_ours(row_of(each), hardware)]
        if found:
            append(found)
            missing -= {row_of(each)["key"] for each in found}
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
