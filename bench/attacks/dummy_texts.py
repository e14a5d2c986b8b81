"""Texts of which lengths and labels are known, and whose words are looked up as a variable."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from leakbench.bench.attacks.base import Case, NotApplicableError, Observer
from leakbench.bench.attacks.token_layers import TokenLayers, vocabulary_of
from leakbench.bench.modalities.texts import NOT_ASKED

NEAR = 32  # words that are compared more closely


def known_tokens(case: Case) -> Tensor:
    """What is known of texts (N, L): padding, and hidden places; elsewhere the unknown piece.

    Raises:
        NotApplicableError: nobody knows their lengths and labels.
    """
    if case.labels is None or case.lengths is None:
        text = "expected texts whose lengths and labels are known to tell it, found a recorded update"
        raise NotApplicableError(text)
    vocabulary, length = vocabulary_of(case.spec), max(case.lengths)
    places = torch.arange(length)[None] < torch.tensor(case.lengths)[:, None]
    known = torch.where(places, vocabulary.unknown, vocabulary.pad)
    return known.masked_fill(case.labels != NOT_ASKED, vocabulary.mask) if case.spec.masked else known


def answered(case: Case, tokens: Tensor) -> Tensor:
    """Tokens (N, L) with the hidden words, which are known, filled in; on the CPU."""
    if case.spec.masked:
        assert case.labels is not None
        labels = case.labels.to(tokens.device)
        tokens = torch.where(labels == NOT_ASKED, tokens, labels)
    return tokens.cpu()


def show(case: Case, tokens: Tensor, step: int, observe: Observer) -> None:
    """Have the texts (N, L) that an attack has found by a step observed."""
    shape, found = case.spec.shape, answered(case, tokens)
    room = (0, shape[0] - found.shape[1])
    observe([case.number], [step], functional.pad(found, room, value=vocabulary_of(case.spec).pad)[None])


class DummyTexts:
    """Texts of known lengths and with known hidden places; what stands at the others is looked for."""

    def __init__(self, case: Case, layers: TokenLayers, device: str):
        self.layers = layers
        self.known = known_tokens(case).to(device)
        vocabulary = vocabulary_of(case.spec)
        self.free = self.known == vocabulary.unknown  # places whose word is looked for
        self.table = layers.words.weight.detach()
        generator = case.generator("start embeddings")
        start = self.table.std().cpu() * torch.randn(
            *self.known.shape, self.table.shape[1], generator=generator
        )
        self.variable = start.to(device)[self.free].requires_grad_()  # (free places, hidden)
        self.rest = self.table[self.known]  # of the other places
        self.directions = _directions(self.table)

    def embeddings(self) -> Tensor:
        """What the words are looked up as (N, L, hidden)."""
        return self.rest.masked_scatter(self.free[..., None], self.variable)

    @contextmanager
    def looked_up_as(self, embeddings: Tensor) -> Iterator[None]:
        """While this lasts, the network looks any tokens up as these (N, L, hidden)."""
        hook = self.layers.words.register_forward_hook(lambda *_: embeddings)
        try:
            yield
        finally:
            hook.remove()

    def tokens(self, closely: bool = True) -> Tensor:
        """The nearest words (N, L), on the device; what is known stays, and hidden words stay hidden.

        Args:
            closely: whether the most similar words are compared once more, by `_nearest`.
        """
        with torch.no_grad():
            alike = _directions(self.variable) @ self.directions.T
            if closely and self.layers.linear:
                words = self._nearest(alike.topk(min(NEAR, len(self.table)), dim=-1).indices)
            else:
                words = alike.argmax(-1)
            return self.known.masked_scatter(self.free, words)

    def _nearest(self, candidates: Tensor) -> Tensor:
        """Of several words for each free place the one that the first layer gets the most similar input of.

        What the embeddings add up to is normalised before that layer, so only its direction is determined.
        """
        first = self.layers.linear[0].layer
        with self.looked_up_as(self.embeddings()):
            wanted = self.layers.inputs(self.known, first)[self.free]
        given = (self.known.masked_scatter(self.free, words) for words in candidates.T)
        apart = [(self.layers.inputs(each, first)[self.free] - wanted).norm(dim=-1) for each in given]
        best = torch.stack(apart).argmin(0)
        return candidates.gather(1, best[:, None])[:, 0]


def _directions(embeddings: Tensor) -> Tensor:
    """Embeddings (..., hidden) without their mean, of length 1."""
    return functional.normalize(embeddings - embeddings.mean(-1, keepdim=True), dim=-1)
