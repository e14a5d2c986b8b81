"""The security index: how much a network's gradient reveals, by the rank of its equations, without attacks.

Chen and Campbell 2021, "Understanding Training-Data Leakage from Gradients in Neural Networks for Image
Classification", section 4, after Zhu and Blaschko 2021. The equations A_i for the input of layer i are those
that the attack `recursive` solves (`bench.equations`), here taken at the true image.
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
    """How well a layer's input is determined if the inputs of all later layers are known."""

    name: str  # see `Block.name`
    unknowns: int  # size of the input
    weight_rows: int  # weight equations that carry information: where the activation is not flat
    gradient_rows: int  # gradient equations that carry information: those that the defense kept
    all_rows: int  # equations, including those that carry none
    rank: float  # number of independent equations
    error: float | None  # two standard errors of the rank; None: it is exact
    condition: float  # largest over smallest counted singular value; for an estimated rank, a lower bound

    @property
    def missing(self) -> float:
        """The number of unknowns that the equations do not determine."""
        return self.unknowns - self.rank


@dataclass(frozen=True)
class ModelIndex:
    """The security index of a network: its layers, beginning at the image."""

    layers: tuple[LayerIndex, ...]

    @property
    def value(self) -> float:
        """c(M) of Chen and Campbell 2021: <= 0, and 0 if the input of every layer is determined.

        The sum over the layers i = 1..d of (d - (i - 1)) / d x (rank(A_i) - n_i).
        """
        return 0.0 - sum(
            share * layer.missing for share, layer in zip(self._shares, self.layers, strict=True)
        )

    @property
    def error(self) -> float:
        """Two standard errors of the value; 0 if no rank was estimated."""
        errors = (share * (layer.error or 0) for share, layer in zip(self._shares, self.layers, strict=True))
        return math.hypot(*errors)

    @property
    def _shares(self) -> list[float]:
        """The weight of a missing rank in each layer."""
        depth = len(self.layers)
        return [(depth - place) / depth for place in range(depth)]

    @property
    def is_exact(self) -> bool:
        """Whether no rank was estimated."""
        return all(layer.error is None for layer in self.layers)

    @property
    def condition(self) -> float:
        """The product of the layers' condition numbers: how much an error may grow up to the image."""
        return math.prod(layer.condition for layer in self.layers)


def index_of(network: nn.Module, image: Tensor, label: Tensor, account: Account | None) -> ModelIndex:
    """The security index of a network at one image.

    Args:
        network: in evaluation mode.
        image: (1, C, H, W).
        label: the class of the image, (1,).
        account: the defense's account of the shared gradient; None: the gradient is undefended.

    Raises:
        NotApplicableError: the network cannot be separated into layers.
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
    """The layers of a network as a chain, each ending at an activation that all paths pass through.

    Raises:
        NotApplicableError: the network cannot be separated into layers, or the last one is not linear.
    """
    with torch.no_grad():
        classes = deepcopy(network)(torch.zeros(1, *shape)).shape[1]
    output_layer(network, Spec(shape, classes))
    chain = chain_of(network, shape, linear=False)
    if chain.problem:
        raise NotApplicableError(f"expected layers that can be separated: {chain.problem}")
    return chain


def _outputs(chain: Chain, image: Tensor, label: Tensor) -> tuple[list[Tensor], Sequence[Tensor]]:
    """The output of each block before its activation, and the gradient of the loss with respect to it."""
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
