"""The base class of defenses: changes that a client makes so that its shared gradient reveals less."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from leakbench.core.configured import Configured
from leakbench.defenses.account import SINGLE, Account, ContractError, Gradients, Mean
from leakbench.defenses.contract import bad_account, broken_batch, broken_promises, is_finite, unlike
from leakbench.defenses.memory import Memory


class Point(StrEnum):
    """Where in the client's work a defense acts, named by the method to override."""

    MODEL = "change_model"
    BATCH = "change_batch"
    EXAMPLES = "apply_each"
    KNOWING = "apply_knowing"
    GRADIENT = "apply"


class Client(NamedTuple):
    """What `apply_knowing` gets besides the client's update."""

    network: nn.Module  # with the weights that the server sent, in evaluation mode, on the CPU
    images: Tensor  # (N, C, H, W), after `change_batch`
    labels: Tensor  # classes (N,) or probabilities (N, K), likewise


class Shared(NamedTuple):
    """The gradient that a client sends, and its cost."""

    gradients: Gradients
    sent_bytes: int
    seconds: float  # in the methods that change gradients


@dataclass(frozen=True)
class Defense(Configured):
    """A change to the gradient that a client shares, to the batch it is computed from, or to the model.

    An author overrides one method, most often `apply`, on a frozen dataclass whose fields are the
    settings; this class checks inputs and outputs.
    """

    one_of: ClassVar[tuple[str, ...]] = tuple(Point)
    family: ClassVar[str] = ""  # curves of one family share a figure; defaults to the name

    @property
    def strength(self) -> float | None:
        """A number that orders the members of a family from weak to strong; None if there is none."""
        return None

    @property
    def multiplier(self) -> float | None:
        """The deviation of its Gaussian noise divided by the most that one example can change an update.

        The epsilon of a training follows from it (`leakbench/bench/privacy.py`); None if nothing bounds it.
        """
        return None

    @property
    def error_feedback(self) -> bool:
        """Whether a client adds what its earlier updates left out to the next one: see `Memory`."""
        return False

    @property
    def own_family(self) -> str:
        """The family in rows and figures."""
        return self.family or self.name

    def apply(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The gradients to share, as new tensors with the same names, shapes and dtypes.

        Args:
            gradients: {parameter name: tensor}, on the CPU. Must not be changed in place.
            generator: a CPU generator, the only source of randomness to use.
        """
        return {name: gradient.clone() for name, gradient in gradients.items()}

    def apply_each(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """The client's update from the gradient of each of its examples, as new tensors {name: shape}.

        `apply` then gets the result. Where an update is not the mean of one gradient per example, as after
        several local steps (`Protocol.separable`), the whole update counts as the only example.

        Args:
            gradients: {parameter name: (N, *shape)}, on the CPU. Must not be changed in place.
            generator: as for `apply`.
        """
        return {name: gradient.mean(0) for name, gradient in gradients.items()}

    def apply_knowing(
        self,
        gradients: Gradients,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> Gradients:
        """The gradients to share, by one who sees the model and the batch that they come from.

        `apply` then gets the result.

        Args:
            gradients: as for `apply`.
            network: a copy of the client's model, in evaluation mode, which may be changed.
            images: see `Client`. Must not be changed in place.
            labels: likewise.
            generator: as for `apply`.
        """
        return {name: gradient.clone() for name, gradient in gradients.items()}

    def account(self, shared: Gradients) -> Account | None:
        """What can be inferred from the shared gradient of one round; None if the defense does not say.

        Attacks that know the defense receive it: its settings are public, its random draws are not.
        `leakbench check` tests whether it is true. With `apply_each`, the variance is that of the noise on
        the sum over the examples.

        Args:
            shared: the output of `apply`, on the CPU; after several rounds, the mean of its outputs.
        """
        return None

    def account_of_rounds(self, shared: Gradients, rounds: int) -> Account | None:
        """`account` of the mean over several rounds, with the variance of one.

        With error feedback, `account` is true of the first round alone, so of several nothing is said.
        """
        return None if self.error_feedback and rounds > 1 else self.account(shared)

    def change_batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The batch to compute the gradient from, as new tensors: mixed, augmented or hidden.

        Args:
            images: (N, C, H, W) in [0, 1], on the CPU. Must not be changed in place.
            labels: the classes (N,). Probabilities (N, K) may be returned instead; columns of classes that
                are missing at the end are taken for zeros.
            generator: as for `apply`.
        """
        return images, labels

    def restore_batch(self, images: Tensor) -> Tensor:
        """The images before `change_batch`, as far as they can be told from those after it.

        What attacks found that know the defense passes through it before it is scored, as an attacker would
        undo a known change. Where nothing can be undone, the images are returned as they are.

        Args:
            images: (N, C, H, W), on the CPU, not always in [0, 1]: what an attack found. Must not be changed
                in place.
        """
        return images

    def change_model(self, network: nn.Module) -> nn.Module:
        """The network to train, with layers added; the client and the server, hence the attacker, know it.

        Like dropout, added layers are in training mode while the client computes its gradient, and in
        evaluation mode everywhere else. Then, and within this method, PyTorch's global generator has
        a fixed seed.

        Args:
            network: a copy, which may be changed; it maps images (N, C, H, W) to scores (N, K).
        """
        return network

    def before_draws(self, network: nn.Module) -> nn.Module | None:
        """The part of a network under `change_model` that comes before its first random draw.

        It is to end in an nn.Linear with a bias, and its parameters are to keep their names. None: there is
        no such part, or nothing is drawn. Attacks that know the defense attack it in place of the network:
        see `bench.before_draws`.

        Args:
            network: a copy, in evaluation mode, which may be changed.
        """
        return None

    def sent_bytes(self, shared: Gradients) -> int:
        """The bytes that a client sends for the output of `apply`: all entries, unless overridden."""
        return sum(gradient.numel() * gradient.element_size() for gradient in shared.values())

    @classmethod
    def points(cls) -> frozenset[Point]:
        """Where the defense acts; empty for the undefended baseline."""
        return frozenset(point for point in Point if getattr(cls, point) is not getattr(Defense, point))

    def __call__(self, gradients: Gradients, generator: torch.Generator) -> Gradients:
        """See `share`."""
        return self.share(gradients, generator).gradients

    def share(
        self,
        gradients: Gradients,
        generator: torch.Generator,
        memory: Memory | None = None,
        client: Client | None = None,
    ) -> Shared:
        """`apply`, with its contract checked; for `apply_each`, the gradients are those of one example.

        Args:
            gradients: the client's update.
            generator: see `apply`.
            memory: the client's, of earlier rounds, for `error_feedback`; None: this is the only round.
            client: for `apply_knowing`.

        Raises:
            ContractError: a gradient is not finite, `apply` changed its input or returned other names,
                shapes or dtypes or values that are not finite, `sent_bytes` is not a size, or a defense
                with `apply_knowing` has no client.
        """
        if Point.EXAMPLES in self.points():
            each = {name: gradient[None] for name, gradient in gradients.items()}
            return self.share_each(each, generator, memory, client)
        return self._share_update(gradients, generator, memory, client)

    def share_each(
        self,
        gradients: Gradients,
        generator: torch.Generator,
        memory: Memory | None = None,
        client: Client | None = None,
    ) -> Shared:
        """`apply_each` and then the rest, of gradients {name: (N, *shape)}, with the contract checked.

        Raises:
            ContractError: as for `share`.
        """
        like = {name: each[0] for name, each in gradients.items()}
        first = self._checked(self.apply_each, gradients, like, generator)
        if not self.points() & {Point.KNOWING, Point.GRADIENT}:
            return first
        second = self._share_update(first.gradients, generator, memory, client)
        return second._replace(seconds=first.seconds + second.seconds)

    def _share_update(
        self, gradients: Gradients, generator: torch.Generator, memory: Memory | None, client: Client | None
    ) -> Shared:
        """`apply_knowing` and `apply`, of the update and what the memory adds to it."""
        if not self.error_feedback or memory is None:
            return self._apply_all(gradients, generator, client)
        corrected = memory.corrected(gradients)
        shared = self._apply_all(corrected, generator, client)
        memory.keep(corrected, shared.gradients)
        return shared

    def _apply_all(self, gradients: Gradients, generator: torch.Generator, client: Client | None) -> Shared:
        if Point.KNOWING not in self.points():
            return self._checked(self.apply, gradients, gradients, generator)
        first = self._checked(self._knowing(client), gradients, gradients, generator)
        if Point.GRADIENT not in self.points():
            return first
        second = self._checked(self.apply, first.gradients, first.gradients, generator)
        return second._replace(seconds=first.seconds + second.seconds)

    def _knowing(self, client: Client | None) -> Callable[[Gradients, torch.Generator], Gradients]:
        """`apply_knowing` with copies of what the client has."""
        if client is None:
            text = "expected the client's model and batch, which are not known here"
            raise ContractError(f"defense {self}: apply_knowing: {text}")
        network, images, labels = client

        def apply(gradients: Gradients, generator: torch.Generator) -> Gradients:
            given = images.clone(), labels.clone()
            shared = self.apply_knowing(gradients, deepcopy(network).eval(), *given, generator)
            if not (torch.equal(given[0], images) and torch.equal(given[1], labels)):
                raise ContractError(f"defense {self}: changed its batch in place; work on copies")
            return shared

        return apply

    def _checked(
        self,
        method: Callable[[Gradients, torch.Generator], Gradients],
        gradients: Gradients,
        like: Gradients,
        generator: torch.Generator,
    ) -> Shared:
        """What a method makes of gradients, of the names, shapes and dtypes of `like`."""
        for name, gradient in gradients.items():
            if not is_finite(gradient):
                raise ContractError(f"gradient {name!r} holds NaN or infinity before any defense")
        given = {name: gradient.clone() for name, gradient in gradients.items()}  # the caller needs its own
        began = time.perf_counter()
        shared = method(given, generator)
        seconds = time.perf_counter() - began
        for problem in broken_promises(gradients, given, like, shared):
            raise ContractError(f"defense {self}: {problem}")
        size = self.sent_bytes(shared)
        if type(size) is not int or size < 0:
            raise ContractError(f"defense {self}: sent_bytes: expected a whole number >= 0, got {size!r}")
        return Shared(shared, size, seconds)

    def checked_account(self, shared: Gradients, mean: Mean = SINGLE) -> Account | None:
        """`account_of_rounds` of a mean over rounds and clients, with its contract checked.

        Of several clients it is a lower bound of the error: an entry that only some of them pruned counts as
        kept, and bounds of rounding follow from the mean and not from each client's gradient; of mean squares
        nothing is said.

        Args:
            shared: see `account`.
            mean: what it is the mean of.

        Raises:
            ContractError: it is not an account, its tensors have other names, shapes or types, or its
                variance is not a finite number >= 0.
        """
        account = self.account_of_rounds(shared, mean.rounds)
        if account is None:
            return None
        for problem in bad_account(shared, account):
            raise ContractError(f"defense {self}: account: {problem}")
        if mean.clients > 1:
            account = replace(account, mean_squares=None)
        fewer = mean.rounds * mean.clients * (mean.examples**2 if Point.EXAMPLES in self.points() else 1)
        if isinstance(account.variance, dict):
            return replace(account, variance={name: each / fewer for name, each in account.variance.items()})
        return replace(account, variance=account.variance / fewer)

    def checked_batch(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, classes: int
    ) -> tuple[Tensor, Tensor]:
        """`change_batch`, with its contract checked, and probabilities of all `classes`.

        Raises:
            ContractError: it changed its input, or returned images that are not finite or have another
                shape or dtype, or labels for another number of images.
        """
        given = images.clone(), labels.clone()
        changed = self.change_batch(*given, generator)
        for problem in broken_batch((images, labels), given, changed):
            raise ContractError(f"defense {self}: {problem}")
        pixels, answers = changed
        if answers.ndim == 2 and answers.is_floating_point():
            answers = nn.functional.pad(answers, (0, classes - answers.shape[1]))
        return pixels, answers

    def checked_restoration(self, images: Tensor) -> Tensor:
        """`restore_batch`, with its contract checked.

        Raises:
            ContractError: it changed its input, or returned images that are not finite or have another
                shape or dtype.
        """
        given = images.clone()
        restored = self.restore_batch(given)
        if not torch.equal(given, images):
            raise ContractError(f"defense {self}: restore_batch: changed its input in place")
        for problem in unlike(images, restored):
            raise ContractError(f"defense {self}: restore_batch: {problem}")
        return restored

    def checked_model(self, network: nn.Module, seed: int) -> nn.Module:
        """`change_model`, with its contract checked; the seed determines its random draws.

        Raises:
            ContractError: it did not return a module.
        """
        own = set(network.modules())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed = self.change_model(network)
        if not isinstance(changed, nn.Module):
            got = type(changed).__name__
            raise ContractError(f"defense {self}: change_model: expected a torch.nn.Module, got {got}")
        for layer in changed.modules():
            layer.training = layer not in own
        return changed

    def checked_part(self, network: nn.Module) -> nn.Module | None:
        """`before_draws` of a copy, with its contract checked.

        Raises:
            ContractError: it did not return a module, or None.
        """
        if type(self).before_draws is Defense.before_draws:
            return None  # and no copy is made
        part = self.before_draws(deepcopy(network))
        if part is not None and not isinstance(part, nn.Module):
            got = type(part).__name__
            raise ContractError(
                f"defense {self}: before_draws: expected a torch.nn.Module or None, got {got}"
            )
        return part
