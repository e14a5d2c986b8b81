"""A stochastic layer in the model: Scheliga et al. 2022, PRECODE, arXiv 2108.04725.

The client draws what comes out of it, and the attacker, who knows the layer, does not know the
draw. Without the paper's term in the loss, which this defense cannot add.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from leakbench import Defense

CITATION = """@inproceedings{scheliga2022precode,
  title = {{PRECODE}: A Generic Model Extension to Prevent Deep Gradient Leakage},
  author = {Scheliga, Daniel and M{\\"a}der, Patrick and Seeland, Marco},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year = {2022},
}"""


class Stochastic(nn.Module):
    """Features to features, through a code that is drawn from N(mean, scale^2) in training."""

    def __init__(self, features, size):
        super().__init__()
        self.encode = nn.Linear(features, 2 * size)
        self.decode = nn.Linear(size, features)

    def forward(self, x):
        mean, scale = self.encode(x).chunk(2, dim=-1)
        code = mean + nn.functional.softplus(scale) * torch.randn_like(mean) if self.training else mean
        return self.decode(code)


@dataclass(frozen=True)
class Bottleneck(Defense):
    """A stochastic layer with a code of `size` numbers before the last linear layer."""

    citation: ClassVar = CITATION
    size: int = 64
    grid: ClassVar = {"size": [16, 64, 256]}

    def change_model(self, network):
        name, last = [pair for pair in network.named_modules() if isinstance(pair[1], nn.Linear)][-1]
        parent, _, attribute = name.rpartition(".")
        layers = nn.Sequential(Stochastic(last.in_features, self.size), last)
        setattr(network.get_submodule(parent), attribute, layers)
        return network
