"""A job: what a run does once and stores a row of. Trials and trainings are jobs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self


class Job(ABC):
    """Everything that decides a result. Equal key, equal result."""

    coupled: ClassVar[bool] = False  # whether one that hangs stops those that share its batch

    @property
    @abstractmethod
    def key(self) -> str:
        """See `key_of`."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """The most outer steps it takes, by which progress is measured."""

    @property
    @abstractmethod
    def group(self) -> tuple[str, ...]:
        """Jobs that agree in this can share a batch."""

    @abstractmethod
    def names(self) -> dict[str, Any]:
        """The job as texts and numbers, from which `from_names` makes it again."""

    @classmethod
    @abstractmethod
    def from_names(cls, names: dict[str, Any]) -> Self:
        """The job that `names` describes.

        Raises:
            ValueError: a name that is unknown here.
        """

    def __reduce__(self) -> tuple[Callable[..., "Job"], tuple[dict[str, Any]]]:
        # by name, so that a worker imports a user's file itself
        return type(self).from_names, (self.names(),)
