"""Embeddings that are not trained share no gradient, so no row of theirs names a word."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from leakbench.defenses.account import Account, Gradients
from leakbench.defenses.base import Defense


@dataclass(frozen=True)
class FreezeEmbeddings(Defense):
    """The weights of every nn.Embedding stay as they are; a model without one is not changed."""

    name: ClassVar[str] = "freeze_embeddings"

    def change_model(self, network: nn.Module) -> nn.Module:
        """See `Defense.change_model`."""
        for layer in network.modules():
            if isinstance(layer, nn.Embedding):
                layer.weight.requires_grad_(False)
        return network

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: what is shared is left as it is."""
        return Account()
