"""Texts whose words are looked up as a variable: what `dlg-text` moves until the gradients match."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.token_layers import TokenLayers, vocabulary_of
from leakbench.bench.modalities.texts import NOT_ASKED

NEAR = 32  # words that are compared more closely


class DummyTexts:
    """Texts of known lengths and with known hidden places; what stands at the others is looked for."""

    def __init__(self, case: Case, layers: TokenLayers, device: str):
        assert case.labels is not None
        assert case.lengths is not None
        self.layers, self.masked = layers, case.spec.masked
        self.labels = case.labels.to(device)
        vocabulary, length = vocabulary_of(case.spec), max(case.lengths)
        places = torch.arange(length)[None] < torch.tensor(case.lengths)[:, None]
        known = torch.where(places, vocabulary.unknown, vocabulary.pad)
        if self.masked:
            known = known.masked_fill(case.labels != NOT_ASKED, vocabulary.mask)
        self.known = known.to(device)
        self.free = self.known == vocabulary.unknown  # places whose word is looked for
        self.table = layers.words.weight.detach()
        generator = case.generator("start embeddings")
        start = self.table.std().cpu() * torch.randn(*known.shape, self.table.shape[1], generator=generator)
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

    def answered(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L) with the hidden words, which are known, filled in; on the CPU."""
        if self.masked:
            tokens = torch.where(self.labels == NOT_ASKED, tokens, self.labels)
        return tokens.cpu()

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
