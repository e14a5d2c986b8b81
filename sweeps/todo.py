"""What a run has to do, and how its progress is shown."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from leakbench.bench.job import Job


class Todo(ABC):
    """The jobs of a run that have no row yet. Iterating gives them, those of a group after one another."""

    noun: ClassVar[str]  # what one of them is called

    @property
    @abstractmethod
    def measure(self) -> str:
        """The column of their rows that progress tells of, where it holds a number."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Job]: ...

    @property
    @abstractmethod
    def steps(self) -> int:
        """The most outer steps that all of them take."""

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, int]:
        """{what gets a line once all its jobs have ended: how many they are}."""

    @property
    @abstractmethod
    def uneven(self) -> bool:
        """Whether their first steps tell little of the time that the others take."""

    @abstractmethod
    def part_of(self, row: Mapping[str, Any]) -> str:
        """To which of the parts the job with that row belongs."""

    @abstractmethod
    def summary(self, values: Sequence[float]) -> str:
        """What the measures of a part come to, in words."""
