"""What a modality is: a kind of examples, such as images, and how found ones are compared with true ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from leakbench.bench.modalities.spec import Spec


@dataclass(frozen=True)
class PartialLeak:
    """A verdict besides that of the leading score: whether an attack found some of an example, at least."""

    column: str  # of the tables of reports
    least: Mapping[str, float]  # {column of a row: what it has to reach}
    meaning: str

    @property
    def title(self) -> str:
        """The heading of the column."""
        return self.column.replace("_", " ")


class Modality(ABC):
    """A kind of examples. N of them together are one tensor, the first dimension of which counts them."""

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # of a row, besides `score`: how much leaked
    leading: ClassVar[str]  # the one of them that a verdict is about
    title: ClassVar[str]  # how reports call that one
    medians: ClassVar[
        dict[str, str]
    ]  # {column of which reports show the median, the leading first: its title}
    forms: ClassVar[dict[str, str]]  # {such a column: how its numbers are written}
    partial: ClassVar[tuple[PartialLeak, ...]] = ()
    error: ClassVar[str]  # what `errors` gives
    one: ClassVar[str]  # what an example is called: image
    leak: ClassVar[float]  # thresholds of the leading score, see `bench.verdicts.Scale`
    artifacts: ClassVar[float]

    @property
    def headings(self) -> dict[str, str]:
        """{column of which reports show the median: its title without the unit}."""
        return {column: title.partition(" [")[0].partition(" (")[0] for column, title in self.medians.items()}

    def said(self, text: str) -> str:
        """A sentence about images and their scores, said of these examples and theirs."""
        return text

    @abstractmethod
    def problems(self, spec: "Spec", found: object, like: Tensor) -> Iterator[str]:
        """What is wrong with what an attack returns for the examples; `like` is a gradient."""

    @abstractmethod
    def label_problems(self, spec: "Spec", labels: object) -> Iterator[str]:
        """What is wrong with what an attack returns for their labels."""

    @abstractmethod
    def batch_shape(self, spec: "Spec") -> tuple[int, ...]:
        """The shape of observed examples; of those of varying length the longest."""

    @abstractmethod
    def match(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[int]:
        """The index of the found example for each true one, all in all the best assignment.

        A mean of gradients contains no order of the examples.
        """

    @abstractmethod
    def errors(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[float]:
        """How far each of k sets of examples (k, N, ...) is from its true ones; 0 of equal ones."""

    @abstractmethod
    def scores(self, found: Tensor, truth: Tensor, spec: "Spec") -> dict[str, float]:
        """`score` and the other columns: each example by itself, then the mean.

        Args:
            found: examples in the order of the true ones.
            truth: these.
            spec: what a server knows of them.
        """

    def inputs(self, found: Tensor, labels: Tensor, spec: "Spec") -> Tensor:
        """What the network would have been given if the examples were these."""
        return found

    def seen(self, found: Tensor) -> Tensor:
        """The examples as they are looked at."""
        return found

    def in_range(self, found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Both on a scale that holds the true ones, which a defense may have brought out of their range."""
        return found, truth

    def prior(self, found: Tensor) -> float:
        """The negative logarithm of how likely such examples are, whatever was shared; up to a constant."""
        return 0.0

    def texts(self, found: Tensor, spec: "Spec") -> Sequence[str]:
        """The examples in letters, if that is how they are kept."""
        return ()
