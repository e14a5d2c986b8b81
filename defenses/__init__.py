"""Defenses, one file per family, and their registry. To add a defense, add a file and a line here."""

from leakbench.core.registry import Registry
from leakbench.defenses.account import Account, ContractError, Gradients
from leakbench.defenses.augment import Augment
from leakbench.defenses.base import Client, Defense, Point
from leakbench.defenses.clipping import Clip, DPGaussian
from leakbench.defenses.dual_pruning import DualPrune
from leakbench.defenses.freezing import FreezeEmbeddings
from leakbench.defenses.instahide import InstaHide
from leakbench.defenses.memory import Memory
from leakbench.defenses.mixup import Mixup
from leakbench.defenses.noise import Gaussian, Laplacian
from leakbench.defenses.none import NoDefense
from leakbench.defenses.precision import BFloat16, Float16
from leakbench.defenses.precode import Precode
from leakbench.defenses.pruning import Prune
from leakbench.defenses.qsgd import QSGD
from leakbench.defenses.quantization import Int8
from leakbench.defenses.random_sparse import RandomSparsify
from leakbench.defenses.sign import Sign
from leakbench.defenses.soteria import Soteria
from leakbench.defenses.terngrad import TernGrad
from leakbench.defenses.top_k import TopK
from leakbench.defenses.traffic import sparse_bytes

__all__ = [
    "DEFENSES",
    "Account",
    "Client",
    "ContractError",
    "Defense",
    "Gradients",
    "Memory",
    "NoDefense",
    "Point",
    "sparse_bytes",
]

DEFENSES = Registry(
    "defense",
    Defense,
    [
        NoDefense,
        Gaussian,
        Laplacian,
        Float16,
        BFloat16,
        Prune,
        Int8,
        Clip,
        DPGaussian,
        FreezeEmbeddings,
        TopK,
        Sign,
        QSGD,
        TernGrad,
        RandomSparsify,
        DualPrune,
        Soteria,
        Precode,
        Mixup,
        InstaHide,
        Augment,
    ],
)
