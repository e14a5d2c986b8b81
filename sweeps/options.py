"""How a sweep is run, whoever asks for it: the command line, a script, a comparison."""

from dataclasses import dataclass
from pathlib import Path

from leakbench.sweeps.spec import Changes


@dataclass(frozen=True)
class RunOptions:
    """What is asked for besides the sweep file.

    `quick`, `suite` and `exhaustive` change what is run; nothing here changes what a trial gives.
    """

    out: Path | None = None  # the run's folder; None: runs/NAME-OF-FILE
    quick: bool = False  # with what the file has under `quick`
    suite: str = ""  # its attacks in place of the file's
    exhaustive: bool = False  # attack victims that have leaked with the other attacks, too
    fresh: bool = False  # only if the folder of the run is empty
    reuse: tuple[Path, ...] = ()  # runs whose rows are taken where they are the same
    retry: bool = False  # run failed trials and trainings again
    force: tuple[str, ...] = ()  # patterns, such as `prune*`: trials with such a name run again
    jobs: int | None = None  # workers; None: one per GPU or core
    device: str = "auto"  # or cpu, or cuda:0,cuda:1,...
    slots: int | None = None  # trials that a worker attacks at once; None: as many as suit
    timeout: float | None = None  # seconds for a trial or training; None: what the file says
    executor: str = "joblib"  # or dask, or inline
    scheduler: str | None = None  # address of dask's
    data_root: Path = Path("data")  # folder of the datasets that are not bundled with the project

    @property
    def changes(self) -> Changes:
        """What of it changes the sweep."""
        return Changes(self.quick, self.suite, self.exhaustive)

    def folder(self, file: Path) -> Path:
        """The folder of a run of that sweep file."""
        return self.out or Path("runs") / file.stem
