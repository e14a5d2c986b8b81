"""The base class of attacks, with its inputs and outputs. The true image is not among the inputs."""

import math
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, ClassVar, Self

import torch
from torch import Tensor, nn

from leakbench.bench.modalities import IMAGES, Modality, Spec
from leakbench.bench.protocols.base import Protocol
from leakbench.core.configured import Configured
from leakbench.core.randomness import generator_for
from leakbench.core.ranges import Range
from leakbench.defenses import Account, ContractError, Defense, Gradients

Steps = Annotated[int, Range(1, 10**9)]  # of an attack that iterates


class Observer(typing.Protocol):
    """Receives the progress of an attack; returns nothing, so that it cannot reveal what it knows."""

    def __call__(self, numbers: list[int], steps: list[int], x: Tensor, labels: Tensor | None = None) -> None:
        """Observe k cases at once.

        Args:
            numbers: the numbers of the cases.
            steps: the outer steps that each case has taken.
            x: their dummy images (k, N, C, H, W), or the nearest tokens (k, N, L).
            labels: the logits of their dummy labels (k, N, K), if the labels are optimised.
        """


class NotApplicableError(Exception):
    """An attack cannot handle such a case, whatever the defense; the text is one sentence that says why."""


class Status(StrEnum):
    """How a trial ended."""

    CONVERGED = "converged"  # reached its goal, or a point that it cannot improve
    BUDGET = "budget"  # stopped at the limit of steps
    DIVERGED = "diverged"  # the dummy image left any plausible range of pixel values
    ERROR = "error"  # failed; the reason says why

    @property
    def has_result(self) -> bool:
        """Whether there is a reconstruction with scores; nothing else in a row decides that."""
        return self is not Status.ERROR


class Knows(StrEnum):
    """What an attack knows, by its threat model, in addition to the model and the shared gradient."""

    DEFENSE = "defense"  # its public settings, never its random draws; see `Defense.account`
    PROTOCOL = "protocol"  # how many steps clients take, and at which rate: see `Case.protocol`
    LABELS = "labels"  # classes, or the hidden words and their places: see `Case.labels`
    LENGTH = "length"  # how many tokens each text has: see `Case.lengths`
    UNKNOWN = "unknown"  # nobody here can say: what it found comes from elsewhere


@dataclass(frozen=True)
class Start:
    """The start of an iterative attack: dummy images (N, C, H, W) and the logits of their labels (N, K)."""

    images: Tensor
    label_logits: Tensor

    @classmethod
    def draw(cls, spec: Spec, *purpose: str | int, uniform: bool = False) -> "Start":
        """Draw N(0, 1) pixels, as in the DLG authors' code, or U(0, 1) ones, and N(0, 1) logits.

        Equal purposes give equal starts.
        """
        pixels = generator_for("start image", *purpose)
        return cls(
            (torch.rand if uniform else torch.randn)(spec.batch_shape, generator=pixels),
            torch.randn(spec.logit_shape, generator=generator_for("start label", *purpose)),
        )


@dataclass(frozen=True)
class Case:
    """Everything that an honest-but-curious server has of one trial."""

    number: int  # identifies the trial for the caller
    model: nn.Module  # with the victim's weights, in evaluation mode
    shared: Gradients  # {parameter name: tensor}, as the victim shared it, on the CPU
    spec: Spec
    purpose: tuple[str | int, ...] = ()  # the address of the trial's random draws
    account: Account | None = None  # of the defense, if the attack knows defenses and this one gives one
    defense: Defense | None = None  # of the clients, if the attack knows defenses
    protocol: Protocol | None = None  # of the clients, if the attack knows protocols
    start: Start | None = None  # on the CPU; None: the attack draws its own
    labels: Tensor | None = None  # if the attack knows labels: (N,), or of masked texts (N, L)
    lengths: tuple[int, ...] | None = None  # if the attack knows lengths: of each text
    whole: "Whole | None" = None  # the network that `model` is a part of, see `bench.before_draws`

    def copy(self) -> "Case":
        """A copy whose model and gradient may be changed; the originals are shared with other trials."""
        shared = {name: gradient.clone() for name, gradient in self.shared.items()}
        return replace(self, model=deepcopy(self.model), shared=shared)

    def generator(self, what: str) -> torch.Generator:
        """A CPU generator for the draws named by `what`; trials with other starts get other draws."""
        return generator_for(what, *self.purpose)


@dataclass(frozen=True)
class Whole:
    """A network of which a part is attacked, whose outputs are no class scores."""

    spec: Spec
    labels: Tensor | None  # (N,), as the gradient of its last bias tells them


@dataclass(frozen=True)
class Resources:
    """Where an attack computes, and how many cases at once."""

    device: str = "cpu"
    slots: int = 1  # most cases attacked at once
    compiled: bool = False  # whether to use torch.compile on the batch


@dataclass(frozen=True)
class Found:
    """The result of an attack on one shared gradient. Tensors are on the CPU."""

    x: Tensor  # images (N, C, H, W), not clipped, or tokens (N, L); for iterative attacks, the best iterate
    labels: Tensor | None = None  # classes (N,) or logits (N, K) of that iterate; None: not reconstructed
    objective: float | None = None  # the attack's objective at that iterate; None: it minimises nothing
    history: Sequence[float] = ()  # the objective at the start and after each outer step
    status: Status = Status.CONVERGED
    reason: str = ""
    seconds: float = 0.0  # set by the base class, unless several cases share the time
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # of layers, by `bench.chain.Block.name`

    @property
    def iterations(self) -> int:
        """Outer steps taken."""
        return max(len(self.history) - 1, 0)

    @property
    def classes(self) -> Tensor | None:
        """The labels as classes (N,)."""
        if self.labels is None or not self.labels.is_floating_point():
            return self.labels
        return self.labels.argmax(-1)


@dataclass(frozen=True)
class Attack(Configured):
    """Reconstructs images, or texts, from the gradients that were shared for them.

    An author overrides `invert` on a frozen dataclass whose fields are the settings; this class loops,
    measures the time and checks the results. To attack many gradients at once, override `invert_many`.
    """

    one_of: ClassVar[tuple[str, ...]] = ("invert", "invert_many")
    knows: ClassVar[frozenset[Knows]] = frozenset()  # the knowledge that it uses, see `Knows`
    modality: ClassVar[Modality] = IMAGES  # of the examples that it reconstructs

    @property
    def budget(self) -> int:
        """The most outer steps of an attack on one gradient; 1 if it does not iterate."""
        return 1

    def with_budget(self, steps: int) -> Self:
        """The same attack with another limit of outer steps."""
        return self

    @property
    def evaluations(self) -> int:
        """The most evaluations of the objective in an attack on one gradient; 0: not counted."""
        return 0

    @property
    def in_lock_step(self) -> bool:
        """Whether many gradients are attacked at once, which requires that `torch.func` can run the model."""
        return False

    def refusal(self, example: Case) -> str:
        """Why the attack cannot handle cases like this one, whatever their values; empty if it can.

        It is called before a sweep starts. For problems that only appear later, raise NotApplicableError.
        """
        return ""

    def refusal_under(self, defense: Defense, example: Case) -> str:
        """Why the attack is of no use under a defense, for cases such as this one; empty if it is of use."""
        return ""

    def bytes_per_slot(self, example: Case, kind: str = "cpu") -> int:
        """The bytes of memory per case when several are attacked at once, on `cpu` or `cuda`."""
        return 0

    def invert(self, case: Case) -> Found:
        """The images or texts that best explain one shared gradient.

        Args:
            case: everything that is known, as a copy. Draw random numbers from `case.generator` only.

        Raises:
            NotApplicableError: the attack cannot handle such a case.
        """
        ((_, found),) = self.invert_many(iter([case]), lambda *_: None, Resources())
        if isinstance(found, NotApplicableError):
            raise found
        return found

    def invert_many(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | NotApplicableError]]:
        """`invert` for many gradients, yielded in the order of completion; one by one unless overridden.

        Args:
            cases: models of one architecture, and gradients of equally many images. Take a case when there
                is room for it. Cases share tensors with other trials; see `Case.copy`.
            observe: to be called at the start and after every outer step; see `Observer`.
            resources: where to compute, and how many cases at once.

        Yields:
            (number of the case, the result or why there is none).
        """
        return one_by_one(cases, self.invert)

    def run(
        self, cases: Iterator[Case], observe: Observer, resources: Resources
    ) -> Iterator[tuple[int, Found | ContractError | NotApplicableError]]:
        """`invert_many`, with its contract checked: yields exactly one result per case it took.

        A ContractError is yielded for a result that is unusable or missing.

        Raises:
            ContractError: a result belongs to no case that was taken, or to one that has a result already,
                or something was observed that is not dummy images of these cases.
        """
        unanswered: dict[int, Case] = {}

        def taken() -> Iterator[Case]:
            for case in cases:
                unanswered[case.number] = case
                yield case

        def checked_observe(
            numbers: list[int], steps: list[int], x: Tensor, labels: Tensor | None = None
        ) -> None:
            problem = next(_badly_observed(unanswered, numbers, steps, x, labels), None)
            if problem:
                raise ContractError(f"attack {self}: observe: {problem}")
            observe(numbers, steps, x, labels)

        for number, found in self.invert_many(taken(), checked_observe, resources):
            if number not in unanswered:
                text = f"expected the number of a case that was taken and not yet answered, got {number!r}"
                raise ContractError(f"attack {self}: {text}")
            case = unanswered.pop(number)
            if isinstance(found, NotApplicableError):
                yield number, found
                continue
            problem = next(_broken_promises(case, found), None)
            yield number, ContractError(f"attack {self}: {problem}") if problem else found
        for number in unanswered:
            yield number, ContractError(f"attack {self}: expected a result for every case, got none")


def one_by_one(
    cases: Iterator[Case], invert: Callable[[Case], Found]
) -> Iterator[tuple[int, Found | NotApplicableError]]:
    """See `Attack.invert_many`: copies of the cases, one after the other, with the time that each took."""
    for case in cases:
        began = time.perf_counter()
        found = invert(case.copy())
        if isinstance(found, Found):
            found = replace(found, seconds=time.perf_counter() - began)
        yield case.number, found


def _badly_observed(
    cases: dict[int, Case], numbers: list[int], steps: list[int], x: Tensor, labels: Tensor | None
) -> Iterator[str]:
    strange = [number for number in numbers if number not in cases]
    if strange:
        yield f"expected numbers of cases that were taken and not yet answered, got {strange[0]!r}"
    elif numbers:
        spec = cases[numbers[0]].spec
        shape = (len(numbers), *spec.batch_shape)
        if not isinstance(x, Tensor) or x.shape != shape or len(steps) != len(numbers):
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            expected = f"expected {len(numbers)} steps and dummy {spec.modality.name} of shape {shape}"
            yield f"{expected}, got {len(steps)} and {found}"
        logits = (len(numbers), *cases[numbers[0]].spec.logit_shape)
        if labels is not None and (not isinstance(labels, Tensor) or labels.shape != logits):
            found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            yield f"expected labels of shape {logits}, or none, got {found}"


def _broken_promises(case: Case, found: object) -> Iterator[str]:
    """Yield what is wrong with the result of an attack."""
    if not isinstance(found, Found):
        yield f"expected Found(x, ...), got {type(found).__name__}"
        return
    modality, like = case.spec.modality, next(iter(case.shared.values()))
    yield from modality.problems(case.spec, found.x, like)
    yield from (f"labels: {problem}" for problem in modality.label_problems(case.spec, found.labels))
    if not isinstance(found.status, Status) or not found.status.has_result:
        known = ", ".join(f"Status.{each.name}" for each in Status if each.has_result)
        yield f"status: expected one of {known}, got {found.status!r}"
    if not isinstance(found.reason, str):
        yield f"reason: expected text, got {found.reason!r}"
    if found.objective is not None and (not _is_number(found.objective) or math.isnan(found.objective)):
        yield f"objective: expected a number or None, got {found.objective!r}"
    if not isinstance(found.inputs, dict) or not all(map(_is_input, found.inputs.items())):
        yield "inputs: expected {name of a layer: tensor}"
    if not isinstance(found.history, list | tuple) or not all(map(_is_number, found.history)):
        yield "history: expected a list of numbers"
    if not _is_number(found.seconds) or not 0 <= found.seconds < math.inf:
        yield f"seconds: expected a number >= 0, got {found.seconds!r}"


def _is_input(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)
