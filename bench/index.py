"""How open a network is before anybody attacks it: the rank of the equations that its gradient is made of.

Chen and Campbell 2021, "Understanding Training-Data Leakage from Gradients in Neural Networks for Image
Classification", section 4, after Zhu and Blaschko 2021. Layer i tells of its input by equations A_i, which
are those that `recursive` solves (`bench.equations`), here at the true image.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leakbench.bench.attacks import NotApplicableError, Spec
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.chain import Chain, chain_of
from leakbench.bench.equations import Output, Slopes
from leakbench.bench.posterior import kept_of
from leakbench.bench.spectrum import spectrum_of
from leakbench.defenses import Account, Gradients


@dataclass(frozen=True)
class LayerIndex:
    """What is known of a layer's input, if all that follows is known."""

    name: str  # see `Block.name`
    unknowns: int  # numbers of its input
    weight_rows: int  # equations by its output that say something: where the activation is not flat
    gradient_rows: int  # equations by the gradient of its weights, likewise: which the defense left
    all_rows: int  # equations that there would be
    rank: float  # independent ones among them
    error: float | None  # two standard errors of it, where it is estimated
    condition: float  # largest over smallest singular value that counts; of an estimate at least

    @property
    def missing(self) -> float:
        """Numbers of the input that nothing determines."""
        return self.unknowns - self.rank


@dataclass(frozen=True)
class ModelIndex:
    """What is known of a network, from the image on."""

    layers: tuple[LayerIndex, ...]

    @property
    def value(self) -> float:
        """c(M), Chen and Campbell 2021: <= 0, and 0 where every layer determines its input.

        The sum over the layers i = 1..d of (d - (i - 1)) / d x (rank(A_i) - n_i).
        """
        return 0.0 - sum(
            share * layer.missing for share, layer in zip(self._shares, self.layers, strict=True)
        )

    @property
    def error(self) -> float:
        """Of the value, where ranks were estimated: two standard errors."""
        errors = (share * (layer.error or 0) for share, layer in zip(self._shares, self.layers, strict=True))
        return math.hypot(*errors)

    @property
    def _shares(self) -> list[float]:
        """What a number counts that a layer lacks."""
        depth = len(self.layers)
        return [(depth - place) / depth for place in range(depth)]

    @property
    def is_exact(self) -> bool:
        """Whether no rank was estimated."""
        return all(layer.error is None for layer in self.layers)

    @property
    def condition(self) -> float:
        """The product of the layers': by how much an error may grow on its way to the image."""
        return math.prod(layer.condition for layer in self.layers)


def index_of(network: nn.Module, image: Tensor, label: Tensor, account: Account | None) -> ModelIndex:
    """The index of a network at one image.

    Args:
        network: with its weights, in evaluation mode.
        image: (1, C, H, W).
        label: its class (1,).
        account: what the defense says of the shared gradient; None: nothing was done to it.

    Raises:
        NotApplicableError: what its layers are cannot be told.
    """
    chain = known_chain(network, tuple(image.shape[1:]))  # type: ignore[arg-type]  # three numbers
    shapes = {name: torch.empty_like(each) for name, each in chain.weights.items()}
    kept = kept_of(account, shapes)
    image = image.double()
    inputs = [each.detach() for each in chain.inputs_of(image)]
    outputs, slopes = _outputs(chain, image, label)
    return ModelIndex(
        tuple(
            _layer(chain, place, inputs[place], outputs[place], slopes[place], kept)
            for place in range(len(chain.blocks))
        )
    )


def known_chain(network: nn.Module, shape: tuple[int, int, int]) -> Chain:
    """Its layers, one after the other, each up to an activation that everything passes.

    Raises:
        NotApplicableError: it has none that can be told apart, or the last one is not linear.
    """
    with torch.no_grad():
        classes = deepcopy(network)(torch.zeros(1, *shape)).shape[1]
    output_layer(network, Spec(shape, classes))
    chain = chain_of(network, shape, linear=False)
    if chain.problem:
        raise NotApplicableError(f"expected layers that can be told apart: {chain.problem}")
    return chain


def _outputs(chain: Chain, image: Tensor, label: Tensor) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Of each block before its activation, and the gradient of the loss in it."""
    outputs: list[Tensor] = []
    inputs = image.clone().requires_grad_()
    for block in chain.blocks:
        outputs.append(block(inputs, chain.weights))
        inputs = block.activation(outputs[-1]) if block.activation else outputs[-1]
    loss = nn.functional.cross_entropy(inputs, label)
    slopes = torch.autograd.grad(loss, outputs)
    return [each.detach() for each in outputs], slopes


def _layer(
    chain: Chain, place: int, inputs: Tensor, outputs: Tensor, slope: Tensor, kept: Gradients
) -> LayerIndex:
    block = chain.blocks[place]
    known = Output(outputs, block.activation.slope(outputs)) if block.activation else None
    equations = Slopes(block, chain.weights, slope, kept, known, inputs)
    spectrum = spectrum_of(equations)
    return LayerIndex(
        block.name,
        equations.shape[1],
        *equations.rows_left,
        equations.shape[0],
        spectrum.rank,
        spectrum.error,
        spectrum.condition,
    )
