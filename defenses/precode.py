"""PRECODE: Scheliga et al. 2022. A variational bottleneck before the last fully connected layer."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from leakbench.core.citations import PRECODE
from leakbench.core.ranges import Count, NonNegative
from leakbench.defenses.account import Account, ContractError, Gradients
from leakbench.defenses.base import Defense
from leakbench.defenses.bottleneck import Bottleneck


@dataclass(frozen=True)
class Precode(Defense):
    """A bottleneck of `size` numbers before the last nn.Linear; `beta` weights its divergence in the loss.

    As in the authors' code: softplus deviations, the mean over the batch, bits. Attacks take the means of
    codes and leave out the divergence: a layer can add its derivative for a client, which takes the first
    alone, but not for an attacker, who takes the second.
    """

    citation: ClassVar[str] = PRECODE
    name: ClassVar[str] = "precode"
    grid: ClassVar[dict[str, list[Any]]] = {"size": [64, 256]}

    size: Count = 256
    beta: NonNegative = 0.001

    def change_model(self, network: nn.Module) -> nn.Module:
        """See `Defense.change_model`."""
        linears = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        if not linears:
            raise ContractError(f"defense {self}: expected a model with an nn.Linear, found none")
        name, last = linears[-1]
        layers = nn.Sequential(Bottleneck(last.in_features, self.size, self.beta), last)
        if not name:
            return layers
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, layers)
        return network

    def before_draws(self, network: nn.Module) -> nn.Module | None:
        """See `Defense.before_draws`: up to the code's mean and deviation."""
        name, bottleneck = next((n, m) for n, m in network.named_modules() if isinstance(m, Bottleneck))
        layers = network.get_submodule(name.rpartition(".")[0])
        assert isinstance(layers, nn.Sequential)  # of `change_model`
        layers[0] = nn.Sequential(OrderedDict(encode=bottleneck.encode))
        del layers[1]
        return network

    def account(self, shared: Gradients) -> Account:
        """See `Defense.account`: the gradient is shared as it is."""
        return Account()
