"""Clipping and Gaussian noise, which together bound what a gradient reveals about one example.

Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133. The paper clips each
example's gradient; here the gradient of the whole batch is clipped, as this is all a client shares.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from leakbench import Defense

CITATION = """@inproceedings{abadi2016deep,
  title = {Deep Learning with Differential Privacy},
  author = {Abadi, Martin and Chu, Andy and Goodfellow, Ian and McMahan, H. Brendan and Mironov, Ilya
            and Talwar, Kunal and Zhang, Li},
  booktitle = {ACM Conference on Computer and Communications Security},
  year = {2016},
}"""


@dataclass(frozen=True)
class ClippedNoise(Defense):
    """The gradient is scaled down to an L2 norm of `clip`; then N(0, (noise * clip)^2) is added."""

    citation: ClassVar = CITATION
    noise: float
    clip: float = 1.0
    grid: ClassVar = {"noise": [0.01, 0.1, 1.0]}

    @property
    def strength(self):
        return self.noise

    def problems(self):
        if self.noise < 0:
            yield "noise", f"expected a number >= 0, got {self.noise:g}"
        if self.clip <= 0:
            yield "clip", f"expected a number > 0, got {self.clip:g}"

    def apply(self, gradients, generator):
        norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
        factor = min(1.0, self.clip / float(norm)) if norm else 1.0
        return {
            name: gradient * factor
            + self.noise * self.clip * torch.randn(gradient.shape, dtype=gradient.dtype, generator=generator)
            for name, gradient in gradients.items()
        }

    def epsilon(self, epochs, delta=1e-5):
        """The privacy budget of an example that contributes to one shared gradient per epoch.

        Replacing the example moves the clipped gradient by up to 2 `clip`, hence the accountant's
        REPLACE_ONE. Needs `pip install 'leakbench[privacy]'`.
        """
        from dp_accounting import GaussianDpEvent, NeighboringRelation
        from dp_accounting.pld import PLDAccountant

        accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE)
        accountant.compose(GaussianDpEvent(self.noise), epochs)
        return accountant.get_epsilon(delta)
