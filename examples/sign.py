"""Sign compression, one bit per entry: Bernstein et al. 2018, signSGD, arXiv 1802.04434."""

from dataclasses import dataclass
from typing import ClassVar

from leakbench import Defense, bitmap_bytes

CITATION = """@inproceedings{bernstein2018signsgd,
  title = {{signSGD}: Compressed Optimisation for Non-Convex Problems},
  author = {Bernstein, Jeremy and Wang, Yu-Xiang and Azizzadenesheli, Kamyar and Anandkumar, Animashree},
  booktitle = {International Conference on Machine Learning},
  year = {2018},
}"""


@dataclass(frozen=True)
class Sign(Defense):
    """The sign of each entry, times the mean magnitude of its tensor (Karimireddy et al. 2019, eq. 1)."""

    citation: ClassVar = CITATION

    def apply(self, gradients, generator):
        return {name: gradient.sign() * gradient.abs().mean() for name, gradient in gradients.items()}

    def sent_bytes(self, shared):
        return sum(bitmap_bytes(gradient.numel()) + 4 for gradient in shared.values())
