"""Where jobs run."""

from leakbench.core.errors import UserError
from leakbench.core.registry import unknown_text
from leakbench.core.words import in_words
from leakbench.sweeps import EXECUTORS
from leakbench.sweeps.executors.base import Executor, Inline
from leakbench.sweeps.executors.cluster import Dask
from leakbench.sweeps.executors.devices import find_devices, worker_devices
from leakbench.sweeps.executors.processes import Joblib


def make_executor(
    name: str, device: str, jobs: int | None, scheduler: str | None, timeout: float
) -> Executor:
    """The executor of that name.

    Args:
        name: `joblib`, `dask` or `inline`.
        device: `auto`, `cpu`, `cuda`, or the names of GPUs.
        jobs: how many workers, if not one per GPU or core; on a cluster they are there already.
        scheduler: the address of dask's, for `dask`.
        timeout: seconds after which a job without a result is an error; 0: no limit.

    Raises:
        UserError: an unknown name, options that do not go together, or devices or workers that are not there.
    """
    if name not in EXECUTORS:
        raise UserError(f"--executor: {unknown_text('executor', name, EXECUTORS)}")
    if (name == "dask") != (scheduler is not None):
        raise UserError("--executor dask and --scheduler ADDRESS: expected both or none, got one of them")
    if timeout and name != "joblib":
        text = f"timeout: expected 0 with --executor {name}, which cannot stop a job"
        raise UserError(f"{text}, got {in_words(timeout)}")
    if scheduler is not None:
        return Dask(scheduler, device)
    devices = find_devices(device)
    return Inline(devices[0]) if name == "inline" else Joblib(worker_devices(devices, jobs), timeout)


__all__ = ["Executor", "make_executor"]
