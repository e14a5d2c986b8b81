"""Rows that another run has already: equal key, equal result, if versions and devices are equal."""

from collections.abc import Iterable
from pathlib import Path

import torch

from defenses.errors import UserError
from sweeps.grid import trials
from sweeps.spec import Sweep
from sweeps.store import Store
from sweeps.training import trainings_of


def reuse_trials(sweep: Sweep, store: Store, folders: Iterable[Path], device: str) -> dict[Path, int]:
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
    missing = {trial.key for trial in trials(sweep)} - store.statuses().keys()
    taken = {}
    for folder in folders:
        records = [each for each in Store.existing(folder).records(missing) if _is_ours(each.row, device)]
        if records:
            store.append(records)
            missing -= {record.row["key"] for record in records}
            taken[folder] = len(records)
    return taken


def reuse_trainings(sweep: Sweep, store: Store, folders: Iterable[Path], device: str) -> dict[Path, int]:
    """The same for trainings; what has to leave checkpoints is trained."""
    assert sweep.training is not None
    asked = {training.key for training in trainings_of(sweep)}
    missing = set() if sweep.training.checkpoints else asked - store.trained()
    taken = {}
    for folder in folders:
        found = [each for each in Store.existing(folder).training_records(missing) if _is_ours(each, device)]
        if found:
            store.append_trainings(found)
            missing -= {row["key"] for row in found}
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
