"""The one place that imports torchvision, and only when a dataset needs it.

A torchvision wheel built for CUDA cannot be imported with a CPU build of torch, because its compiled
operators `nms` and `qnms` do not load. Datasets do not need them, so after exactly this error their
schemas are declared and the import is repeated. Calling the operators still fails, with PyTorch's
error.
"""

import importlib
import sys
from functools import lru_cache
from types import ModuleType

import torch

MISSING_OPERATOR = "operator torchvision::nms does not exist"
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@lru_cache  # keeps the library, and thus the declared schemas, for the life of the process
def _declare_missing_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


@lru_cache
def torchvision_datasets() -> ModuleType:
    """The module `torchvision.datasets`."""
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if MISSING_OPERATOR not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _declare_missing_operators()
    return importlib.import_module("torchvision.datasets")
