"""The base class of models: layers for an image shape, and the source of their weights."""

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from leakbench.bench.datasets import Source, Texts
from leakbench.bench.modalities import IMAGES, Modality
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.vocabulary import Vocabulary
from leakbench.core.configured import Configured, SettingError
from leakbench.core.randomness import generator_for, seed_for
from leakbench.core.user_files import file_digest

Purpose = tuple[str | int, ...]  # of random draws
CHECKPOINT, EMBEDDED = "checkpoint:", "embedded:"
WEIGHTS = Path(__file__).parents[1] / "embedded"  # that come with the project
HIDDEN = 0.15  # the share of pieces to be guessed
ActivationName = Literal["sigmoid", "tanh", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class Model(Configured, ABC):
    """A network under attack, used in evaluation mode.

    `weights` is `uniform` (every weight and bias ~ U(-0.5, 0.5), untrained, as in the DLG authors'
    code), `default` (PyTorch's initialisation), `checkpoint:PATH` (a state dict saved by `torch.save`) or
    `embedded:NAME` (one that comes with the project, such as `embedded:lenet_mnist`).
    """

    modality: ClassVar[Modality | None] = IMAGES  # of what it takes; None: whatever fits

    weights: str = "uniform"

    @property
    def masked(self) -> bool:
        """Whether it guesses hidden words, in place of a class."""
        return False

    def given(
        self, source: Source, examples: Tensor, labels: Tensor, places: Sequence[Purpose]
    ) -> tuple[Tensor, Tensor]:
        """What the network is given of examples, and what it is to answer.

        Of a text to be guessed, 15 % of the pieces are hidden, at least one, as in BERT's training; there,
        a fifth of them is replaced by another piece or left as it is, here all are replaced by `[MASK]`.

        Args:
            source: what they are of.
            examples: as `Source.batch` returns them.
            labels: their classes (N,).
            places: the address of the draws for each, the same whoever its neighbours are.
        """
        if not self.masked:
            return examples, labels
        if not isinstance(source, Texts):
            raise SettingError([("", f"expected texts to hide words of, got {source.modality.name}")])
        hidden = torch.stack(
            [
                _hidden(text, source.vocabulary, generator_for("hidden words", *place))
                for text, place in zip(examples, places, strict=True)
            ]
        )
        answers = examples.masked_fill(~hidden, NOT_ASKED)
        return examples.masked_fill(hidden, source.vocabulary.mask), answers

    def problems(self) -> Iterator[tuple[str, str]]:
        """`weights` must be one of the four; a checkpoint must exist."""
        if self.weights in ("uniform", "default"):
            return
        if self.checkpoint is None:
            yield "weights", f"expected uniform, default or {CHECKPOINT}PATH, got {self.weights!r}"
        elif self.weights.startswith(EMBEDDED) and not os.path.isfile(self.checkpoint):
            known = sorted(path.stem for path in WEIGHTS.glob("*.pt"))
            yield "weights", f"expected {EMBEDDED} and one of {', '.join(known)}, got {self.weights!r}"
        elif not os.path.isfile(self.checkpoint):  # pathlib would raise if the name is too long
            yield "weights", f"expected a file at {str(self.checkpoint)!r}, found none"

    @property
    def checkpoint(self) -> Path | None:
        """The file that the weights are read from; None if they are drawn."""
        if self.weights.startswith(EMBEDDED):
            return WEIGHTS / f"{self.weights.removeprefix(EMBEDDED)}.pt"
        return Path(self.weights.removeprefix(CHECKPOINT)) if self.weights.startswith(CHECKPOINT) else None

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; a checkpoint is included by its content."""
        checkpoint = file_digest(self.checkpoint) if self.checkpoint else ""
        return {**super().canonical(), "checkpoint": checkpoint}

    @abstractmethod
    def layers(self, shape: Any, classes: int) -> nn.Module:
        """A module that maps images (B, C, H, W) to class scores (B, classes), with any weights.

        Args:
            shape: (C, H, W) of one image; of texts see `Spec.shape`.
            classes: the number of labels.
        """

    def build(self, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
        """The network with its weights, on the CPU.

        Args:
            shape: (C, H, W) of one image; of texts see `Spec.shape`.
            classes: the number of labels.
            seed: of the draw of the weights; it has no effect on a checkpoint.

        Raises:
            SettingError: the checkpoint does not fit the network.
        """
        # PyTorch's initialisation takes no generator, so seed the global one for its duration
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("default weights", self.own_name, seed))
            network = self.layers(shape, classes).eval()
        if self.weights == "uniform":
            generator = generator_for("uniform weights", self.own_name, seed)
            for parameter in network.parameters():
                nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
        elif self.checkpoint:
            self._load(network, self.checkpoint)
        return network

    def _load(self, network: nn.Module, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except (RuntimeError, TypeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:300]
            text = f"{path}: expected a state dict of {self.name}: {reason}"
            raise SettingError([("weights", text)]) from error


def _hidden(text: Tensor, vocabulary: Vocabulary, generator: torch.Generator) -> Tensor:
    """Which pieces of a text (L,) are hidden; what is drawn does not depend on its padding."""
    own = torch.tensor([token not in vocabulary.special for token in text.tolist()])
    count = int(own.sum())
    chances = torch.rand(max(count, 1), generator=generator)
    chosen = (chances < HIDDEN) | (chances == chances.min())
    hidden = torch.zeros_like(own)
    hidden[own] = chosen[:count]
    return hidden
