"""The sweep that compares new defenses with known ones: what is attacked, and what is trained."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from leakbench.bench.datasets import Images, Source
from leakbench.bench.modalities import TEXTS
from leakbench.core.errors import UserError
from leakbench.defenses import Defense

FIRST_LINE = "# written by:"  # the start of it, in every sweep file that was not written by hand
DIGITS, SENTENCES = "mnist-5k", "sotu-2k"  # to train on if the attacked dataset has too few examples
FEWEST = {"images": 200, "texts": 1000}  # for a model to be trained and tested on
OF_TEXTS = {  # by sgd a BERT stays at chance; two clients, because each sends millions of numbers
    "clients": 2, "batch_size": 10, "optimizer": "adam", "lr": 0.001,
}  # fmt: skip
MOST = 5000
TESTED = 5  # every fifth example is for testing


@dataclass(frozen=True)
class Budget:
    """How much is run."""

    examples: int
    restarts: int
    epochs: int
    seeds: int


BUDGETS = {
    "quick": Budget(examples=10, restarts=1, epochs=3, seeds=3),
    "standard": Budget(examples=12, restarts=3, epochs=10, seeds=3),
    "full": Budget(examples=20, restarts=3, epochs=30, seeds=5),
}


@dataclass(frozen=True)
class Comparison:
    """What is compared with what, on which examples and which model."""

    defenses: tuple[Defense, ...]
    against: tuple[Defense, ...]
    budget: Budget
    data: str
    model: str

    def sweep(self, source: Source) -> dict[str, Any]:
        """The content of a sweep file; `source` is the opened dataset."""
        budget = self.budget
        return {
            "datasets": [{"name": self.data, "indices": f"0-{min(budget.examples, len(source)) - 1}"}],
            "models": [self.model],
            "defenses": ["none", *dict.fromkeys(map(str, (*self.against, *self.defenses)))],
            "suite": "standard",
            "restarts": budget.restarts,
            "training": {
                **examples(self.data, source),
                **(OF_TEXTS if source.modality is TEXTS else {}),
                "epochs": budget.epochs,
                "seeds": f"0-{budget.seeds - 1}",
            },
        }


def examples(data: str, source: Source) -> dict[str, Any]:
    """What to train and to test on: these or, if they are too few, digits of their shape or sentences."""
    count = len(source)
    if count < FEWEST[source.modality.name]:
        if not isinstance(source, Images):
            texts = {"name": SENTENCES}
            return {"train": {**texts, "indices": "0-1599"}, "test": {**texts, "indices": "1600-1999"}}
        channels, size, _ = source.shape
        digits = {"name": DIGITS, "size": size, "grey": channels == 1}
        return {"train": {**digits, "indices": "0-3999"}, "test": {**digits, "indices": "4000-4999"}}
    # folders hold one class after the other: take images at even distances, not the last ones
    chosen = [place * count // min(count, MOST) for place in range(min(count, MOST))]
    return {
        "train": {"name": data, "indices": [each for n, each in enumerate(chosen) if n % TESTED]},
        "test": {"name": data, "indices": chosen[::TESTED]},
    }


def write_sweep(content: dict[str, Any], file: Path, command: list[str]) -> None:
    """Write the sweep file, with the command that it comes from.

    Raises:
        UserError, OSError: as `write_own`.
    """
    write_own(content, file, shlex.join(["leakbench", *command]))


def write_own(content: dict[str, Any], file: Path, writer: str) -> None:
    """Write a sweep file whose first line names its writer.

    Raises:
        UserError: a file of the same name that was not written by LeakBench.
        OSError: it cannot be written.
    """
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    found = file.read_text() if file.exists() else ""
    if found.strip() and not found.startswith(FIRST_LINE):
        expected = f"expected no file or one that begins with {FIRST_LINE!r}, found another"
        raise UserError(f"{file}: {expected}; choose another folder with --out, or remove the file")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{FIRST_LINE} {writer}\n{text}")
