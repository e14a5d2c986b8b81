"""The protocol behind the leaderboard: a file of a fixed version, and the sweeps that follow from it.

It is called a benchmark here, because a protocol is what clients and a server agree on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakbench import sweeps
from leakbench.bench.attacks import ATTACKS
from leakbench.bench.datasets import DATASETS
from leakbench.bench.modalities import Modality
from leakbench.core.errors import UserError
from leakbench.core.registry import unknown_text
from leakbench.core.user_files import file_digest
from leakbench.reports.selection import BASELINE
from leakbench.sweeps.comparison import write_own
from leakbench.sweeps.sweep_file import named
from leakbench.sweeps.yaml_file import UnreadableFileError, read_yaml

FOLDER = Path(sweeps.__file__).parent / "protocols"
ACCURACY = "accuracy"  # the name of the part that trains
KEYS = ("version", "parts", ACCURACY)


@dataclass(frozen=True)
class Benchmark:
    """A version of the protocol."""

    version: int
    digest: str  # SHA-256 of its file
    parts: Mapping[str, Mapping[str, Any]]  # {name: the content of a sweep file without defenses}
    accuracy: Mapping[str, Any]  # likewise, of trainings

    @property
    def name(self) -> str:
        """Such as `v1`."""
        return f"v{self.version}"

    def modality(self, part: str) -> Modality:
        """Of a part's examples."""
        return modality_of(self.parts[part])

    def sweeps(self, defenses: Sequence[str], attacks: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
        """The name of each part and the content of its sweep file; the part that trains is the last.

        Args:
            defenses: by name; each is crossed with all parts.
            attacks: by name; they are added to those of the parts whose examples they take.
        """
        crossed = {"defenses": list(dict.fromkeys([BASELINE, *defenses])), "snapshot_every": 0}
        for name, content in self.parts.items():
            yield name, {**_with(content, attacks), **crossed}
        yield ACCURACY, {**self.accuracy, "defenses": crossed["defenses"]}


def _with(content: Mapping[str, Any], attacks: Sequence[str]) -> dict[str, Any]:
    """A part with more attacks, which come after its own."""
    modality = modality_of(content)
    more = [name for name in attacks if ATTACKS.parse(name).modality is modality]
    if not more:
        return dict(content)
    own = [] if "suite" in content else named(content, "attacks")
    return {**content, "attacks": [*own, *more], "exhaustive": False}


def write_parts(
    benchmark: Benchmark, defenses: Sequence[str], attacks: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Write the sweep file of each part into a folder: {part: its file}.

    Raises:
        UserError: files of the same names that LeakBench did not write.
        OSError: they cannot be written.
    """
    files = {}
    for part, content in benchmark.sweeps(defenses, attacks):
        files[part] = folder / f"{folder_of(part)}.yaml"
        write_own(content, files[part], f"leakbench submit, protocol {benchmark.name}, {part}")
    return files


def folder_of(part: str) -> str:
    """The name of a part in names of files."""
    return part.replace(" ", "-")


def modality_of(content: Mapping[str, Any]) -> Modality:
    """Of the examples of a part."""
    return DATASETS.parse(named(content, "datasets")[0]).modality


def read_benchmark(name: str) -> Benchmark:
    """A version of the protocol, such as `v1`.

    Raises:
        UserError: there is none of that name, or its file is not one.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if name not in known:
        raise UserError(unknown_text("protocol", name, known))
    file = FOLDER / f"{name}.yaml"
    try:
        content = read_yaml(file)
    except UnreadableFileError as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(content, Mapping) or set(content) != set(KEYS):
        raise UserError(f"{file}: expected the keys {', '.join(KEYS)}, got {_shown(content)}")
    return Benchmark(content["version"], file_digest(file), content["parts"], content[ACCURACY])


def _shown(content: Any) -> str:
    return ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
