"""Finds the layers of a language model that its tokens pass first, by what passes through them."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from leakbench.bench.attacks.base import Case, NotApplicableError
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities import Spec
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.vocabulary import Vocabulary
from leakbench.core.randomness import generator_for

LookedUp = tuple[nn.Embedding, Tensor]  # an embedding, and the numbers that were looked up in it


class _EnoughError(Exception):
    """What comes after a layer is not needed."""


@dataclass(frozen=True)
class Linear:
    """A linear layer whose inputs are (N, L, hidden)."""

    layer: nn.Linear
    weight: str  # name of its parameter


@dataclass(frozen=True)
class TokenLayers:
    """The layers by which tokens enter a network."""

    model: nn.Module  # a copy, which the layers are of
    words: nn.Embedding  # of the pieces of the vocabulary
    words_name: str | None  # name of its parameter; None: it is not trained
    positions_name: str | None  # likewise of the embedding of places (places, hidden), or there is none
    linear: tuple[Linear, ...]  # those that are trained, from the first on
    decoder: Linear | None  # the one whose outputs are scores of all pieces
    norm: nn.LayerNorm | None = None  # what the embeddings add up to passes it first, or it is not normalised

    def inputs(self, tokens: Tensor, layer: nn.Module) -> Tensor:
        """What a layer gets (N, L, hidden) of tokens (N, L); what comes after it is not run."""
        seen: list[Tensor] = []

        def keep(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen.append(given[0])
            raise _EnoughError

        hook = layer.register_forward_pre_hook(keep)
        try:
            with torch.no_grad():
                self.model(tokens)
        except _EnoughError:
            pass
        finally:
            hook.remove()
        return seen[0]


def token_layers(model: nn.Module, spec: Spec) -> TokenLayers:
    """The layers of a network.

    Raises:
        NotApplicableError: it does not look its tokens up in an nn.Embedding.
    """
    own = deepcopy(model)  # a model may store its inputs
    length, pieces = min(3, spec.shape[0]), spec.shape[1]
    tokens = torch.randint(pieces, (1, length), generator=generator_for("token layers"))
    looked_up, linears, norm = _passed(own, tokens)
    names: dict[Tensor, str] = {parameter: name for name, parameter in trained_parameters(own)}
    words = _looked_up(looked_up, tokens[0])
    if words is None or words.num_embeddings != pieces:
        raise NotApplicableError("expected a model that looks its tokens up in an nn.Embedding")
    positions = _looked_up(looked_up, torch.arange(length))
    trained = [
        Linear(layer, names[layer.weight])
        for layer, given in linears
        if given.shape[:-1] == (1, length) and layer.weight in names
    ]
    return TokenLayers(
        own,
        words,
        names.get(words.weight),
        names.get(positions.weight) if positions else None,
        tuple(each for each in trained if each.layer.out_features != pieces),
        next((each for each in trained if each.layer.out_features == pieces), None),
        norm,
    )


def _passed(
    model: nn.Module, tokens: Tensor
) -> tuple[list[LookedUp], list[tuple[nn.Linear, Tensor]], nn.LayerNorm | None]:
    """Embeddings and linear layers, each with what it was given; the norm before the first linear layer."""
    looked_up: list[LookedUp] = []
    linears: list[tuple[nn.Linear, Tensor]] = []
    norms: list[nn.LayerNorm] = []

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Embedding):
            looked_up.append((layer, given[0]))
        elif isinstance(layer, nn.Linear):
            linears.append((layer, given[0]))
        elif isinstance(layer, nn.LayerNorm) and not linears:
            norms.append(layer)

    hooks = [each.register_forward_pre_hook(keep) for each in model.modules()]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return looked_up, linears, norms[0] if norms else None


def _looked_up(looked_up: list[LookedUp], wanted: Tensor) -> nn.Embedding | None:
    """The embedding in which these numbers were looked up."""
    return next((layer for layer, given in looked_up if torch.equal(given.flatten(), wanted)), None)


def training_loss(
    model: nn.Module, tokens: Tensor, labels: Tensor, run: Callable[..., Tensor] | None = None
) -> Tensor:
    """The loss of a network for tokens (N, L), a scalar; only scores that count are computed if it can.

    Args:
        model: of the network.
        tokens: what it is given.
        labels: classes (N,), or of a masked model the hidden words (N, L).
        run: calls the network; None: as usual.
    """
    run = run or model
    if labels.dim() == 1 or not getattr(model, "takes_places", False):
        return functional.cross_entropy(run(tokens), labels)
    asked = labels != NOT_ASKED
    return functional.cross_entropy(run(tokens, asked), labels[asked])


def vocabulary_of(spec: Spec) -> Vocabulary:
    """That of the tokens."""
    assert spec.vocabulary is not None
    return spec.vocabulary


def decoder_bias(case: Case) -> Tensor | None:
    """What was shared of a decoder's bias (V,); None if there is none."""
    pieces = case.spec.shape[1]
    return next((each for each in case.shared.values() if each.shape == (pieces,)), None)
