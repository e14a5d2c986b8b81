"""A stochastic layer in the model: Scheliga et al. 2022, PRECODE, arXiv 2108.04725.

The output of the layer is random: the attacker knows the layer, but not the client's draw. The
paper's additional loss term is omitted, because a defense cannot change the loss.
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
    """Encodes features as a code drawn from N(mean, scale^2) in training, and decodes it."""

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
    """A stochastic layer, with a code of `size` numbers, inserted before the last linear layer."""

    citation: ClassVar = CITATION
    size: int = 64
    grid: ClassVar = {"size": [16, 64, 256]}

    def change_model(self, network):
        name, last = [pair for pair in network.named_modules() if isinstance(pair[1], nn.Linear)][-1]
        parent, _, attribute = name.rpartition(".")
        layers = nn.Sequential(Stochastic(last.in_features, self.size), last)
        setattr(network.get_submodule(parent), attribute, layers)
        return network
