"""What server and clients agree on."""

from torch import nn

from leakbench.bench.models import MODELS

LR = 0.1
DEFENSE = "none"  # or such as "prune(ratio=0.99)": see `leakbench list`


def network() -> nn.Module:
    """The LeNet of the DLG paper, for images (3, 32, 32) in 10 classes."""
    return MODELS.parse("lenet").build((3, 32, 32), 10, seed=0)
