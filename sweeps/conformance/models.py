"""Whether a model keeps its contract: it is built for images and classes, and can be attacked."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from leakbench.bench.attackable import model_problems
from leakbench.bench.attacks import NotApplicableError
from leakbench.bench.datasets import DATASETS, Images, open_images
from leakbench.bench.models import MODELS, Model
from leakbench.core.foreign import ForeignError, foreign
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

SAMPLES = ("mnist-sample", "cifar10-sample", "cifar100-sample")  # a model has to take at least one of them
COUNT = 2  # images in a batch


def findings(model: Model) -> Iterator[Finding]:
    """Every check of a model, one after the other."""
    return tried(model, _attempts(model))


def _attempts(model: Model) -> Attempts:
    yield SETTINGS, partial(read_back, model, MODELS)
    samples = [open_images(DATASETS.parse(name), Path()) for name in SAMPLES]
    refusals = [_refusal(model, images) for images in samples]
    fitting = [images for images, text in zip(samples, refusals, strict=True) if not text]
    for images, text in zip(samples, refusals, strict=True):
        size = "x".join(map(str, images.shape))
        what = f"images of {size} in {images.classes} classes, and a second derivative"
        yield what, partial(_attacked, model, images, text if fitting else "")
    for images in fitting[:1]:
        yield "the same weights from the same seed", partial(_weights, model, images)
        yield "the same scores from the same images, and no randomness", partial(_repeated, model, images)


def _build(model: Model, images: Images) -> nn.Module:
    return model.build(images.shape, images.classes, seed=0)


def _refusal(model: Model, images: Images) -> str:
    """Why a model cannot take such images or so many classes; empty if it can."""
    batch, _ = images.batch(range(COUNT))
    try:
        with foreign():
            shape = tuple(_build(model, images)(batch).shape)
    except ForeignError as error:
        return error.short
    expected = (COUNT, images.classes)
    return "" if shape == expected else f"expected class scores of shape {expected}, got {shape}"


def _attacked(model: Model, images: Images, refusal: str) -> str | None:
    if refusal:
        raise NotApplicableError(refusal)
    batch, labels = images.batch(range(COUNT))
    return next(model_problems(model, images, batch, labels, True, partial(_build, model, images)), None)


def _weights(model: Model, images: Images) -> str | None:
    for own in dict.fromkeys((model, replace(model, weights="default"))):
        first, again = (_build(own, images).state_dict() for _ in range(2))
        if any(not torch.equal(each, again[name]) for name, each in first.items()):
            text = f"expected the same weights again with weights={own.weights}, got others"
            return f"{text}; draw them with PyTorch's own functions"
    return None


def _repeated(model: Model, images: Images) -> str | None:
    network, (batch, _) = _build(model, images), images.batch(range(COUNT))
    given, before = batch.clone(), torch.random.get_rng_state()
    first, again = network(batch), network(given.clone())
    if not torch.equal(batch, given):
        return "changed the images in place; work on a copy"
    if not torch.equal(first, again):
        return "expected the same scores again, got others; draw nothing in evaluation mode"
    if not torch.equal(before, torch.random.get_rng_state()):
        return "used PyTorch's global random generator; draw nothing in evaluation mode"
    return None
