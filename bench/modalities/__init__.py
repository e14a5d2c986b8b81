"""Modalities: the kinds of examples that leak, and how what leaked of them is measured."""

from leakbench.bench.modalities.base import Modality
from leakbench.bench.modalities.images import IMAGES
from leakbench.bench.modalities.spec import Spec
from leakbench.bench.modalities.texts import TEXTS

__all__ = ["IMAGES", "MODALITIES", "TEXTS", "Modality", "Spec"]

MODALITIES = {each.name: each for each in (IMAGES, TEXTS)}
