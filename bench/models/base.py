"""The base class of models: layers for an image shape, and the source of their weights."""

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from leakbench.core.configured import Configured, SettingError
from leakbench.core.randomness import generator_for, seed_for
from leakbench.core.user_files import file_digest

CHECKPOINT = "checkpoint:"
ActivationName = Literal["sigmoid", "tanh", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class Model(Configured, ABC):
    """A network under attack, used in evaluation mode.

    `weights` is `uniform` (every weight and bias ~ U(-0.5, 0.5), untrained, as in the DLG authors'
    code), `default` (PyTorch's initialisation) or `checkpoint:PATH` (a state dict saved by `torch.save`).
    """

    weights: str = "uniform"

    def problems(self) -> Iterator[tuple[str, str]]:
        """`weights` must be one of the three; a checkpoint must exist."""
        if self.weights in ("uniform", "default"):
            return
        if not self.weights.startswith(CHECKPOINT):
            yield "weights", f"expected uniform, default or {CHECKPOINT}PATH, got {self.weights!r}"
        elif not os.path.isfile(self.checkpoint):  # pathlib would raise if the name is too long
            yield "weights", f"expected a file at {str(self.checkpoint)!r}, found none"

    @property
    def checkpoint(self) -> Path:
        """The PATH of `checkpoint:PATH`."""
        return Path(self.weights.removeprefix(CHECKPOINT))

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; a checkpoint is included by its content."""
        checkpoint = file_digest(self.checkpoint) if self.weights.startswith(CHECKPOINT) else ""
        return {**super().canonical(), "checkpoint": checkpoint}

    @abstractmethod
    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """A module that maps images (B, C, H, W) to class scores (B, classes), with any weights."""

    def build(self, shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
        """The network with its weights, on the CPU.

        Args:
            shape: (C, H, W) of one image.
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
        elif self.weights.startswith(CHECKPOINT):
            self._load(network)
        return network

    def _load(self, network: nn.Module) -> None:
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        except (RuntimeError, TypeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:300]
            text = f"{self.checkpoint}: expected a state dict of {self.name}: {reason}"
            raise SettingError([("weights", text)]) from error
