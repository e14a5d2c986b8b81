"""Rows that another run has already: equal key, equal result, if versions and devices are equal."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from defenses.errors import UserError
from sweeps.grid import trials
from sweeps.spec import Sweep
from sweeps.store import Store
from sweeps.training import course_of, trainings_of

T = TypeVar("T")


def reuse_trials(sweep: Sweep, store: Store, folders: Sequence[Path], device: str) -> dict[Path, int]:
    """Take what the sweep asks for and the store lacks from other runs; {folder: rows taken}.

    Args:
        sweep: what is to be there.
        store: where it goes; its lock is held.
        folders: of other runs, looked through in this order.
        device: where the sweep would compute the rest.

    Raises:
        UserError: a folder that is no run of this version of the program.
        StoppedError: the rows cannot be written.
    """
    if not folders:
        return {}  # the keys of a large sweep take their time
    missing = {trial.key for trial in trials(sweep)} - store.statuses().keys()
    return _take(folders, missing, device, Store.records, lambda record: record.row, store.append)


def reuse_trainings(sweep: Sweep, store: Store, folders: Sequence[Path], device: str) -> dict[Path, int]:
    """The same for trainings; what has to leave checkpoints is trained."""
    if not folders or course_of(sweep).checkpoints:
        return {}
    missing = {training.key for training in trainings_of(sweep)} - store.trained()
    return _take(folders, missing, device, Store.training_records, lambda row: row, store.append_trainings)


def _take(
    folders: Sequence[Path],
    missing: set[str],
    device: str,
    find: Callable[[Store, set[str]], list[T]],
    row_of: Callable[[T], dict[str, Any]],
    append: Callable[[list[T]], None],
) -> dict[Path, int]:
    taken = {}
    for folder in folders:
        found = [each for each in find(Store.existing(folder), missing) if _is_ours(row_of(each), device)]
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


def _is_ours(row: dict[str, object], device: str) -> bool:
    same_kind = torch.device(str(row["device"])).type == torch.device(device).type
    return same_kind and row["torch_version"] == torch.__version__
