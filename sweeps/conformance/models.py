"""Whether a model keeps its contract: it is built for images and classes, and can be attacked."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from leakbench.bench.attackable import model_problems
from leakbench.bench.attacks import NotApplicableError
from leakbench.bench.datasets import DATASETS, Source, open_dataset
from leakbench.bench.modalities import IMAGES, TEXTS
from leakbench.bench.models import MODELS, Model
from leakbench.core.foreign import ForeignError, foreign
from leakbench.sweeps.conformance.base import SETTINGS, Attempts, Finding, read_back, tried

SAMPLES = {  # a model has to take at least one of them
    IMAGES: ("mnist-sample", "cifar10-sample", "cifar100-sample"),
    TEXTS: ("sotu-sample",),
}
COUNT = 2  # examples in a batch


def findings(model: Model) -> Iterator[Finding]:
    """Every check of a model, one after the other."""
    return tried(model, _attempts(model))


def _attempts(model: Model) -> Attempts:
    yield SETTINGS, partial(read_back, model, MODELS)
    names = SAMPLES[model.modality or IMAGES]
    samples = [open_dataset(DATASETS.parse(name), Path()) for name in names]
    refusals = [_refusal(model, source) for source in samples]
    fitting = [source for source, text in zip(samples, refusals, strict=True) if not text]
    for source, text in zip(samples, refusals, strict=True):
        size = f"{source.modality.name} of {'x'.join(map(str, source.shape))} in {source.classes} classes"
        derivative = "a second derivative" if source.modality is IMAGES else "a gradient"
        yield f"{size}, and {derivative}", partial(_attacked, model, source, text if fitting else "")
    for source in fitting[:1]:
        again = f"the same scores from the same {source.modality.name}, and no randomness"
        yield "the same weights from the same seed", partial(_weights, model, source)
        yield again, partial(_repeated, model, source)


def _build(model: Model, source: Source) -> nn.Module:
    return model.build(source.shape, source.classes, seed=0)


def _inputs(model: Model, source: Source) -> Tensor:
    return model.given(source, *source.batch(range(COUNT)), [("check", n) for n in range(COUNT)])[0]


def _refusal(model: Model, source: Source) -> str:
    """Why a model cannot take such examples or so many classes; empty if it can."""
    try:
        with foreign():
            batch = _inputs(model, source)
            shape = tuple(_build(model, source)(batch).shape)
    except ForeignError as error:
        return error.short
    expected = (COUNT, source.shape[1], batch.shape[1]) if model.masked else (COUNT, source.classes)
    return "" if shape == expected else f"expected class scores of shape {expected}, got {shape}"


def _attacked(model: Model, source: Source, refusal: str) -> str | None:
    if refusal:
        raise NotApplicableError(refusal)
    batch, labels = source.batch(range(COUNT))
    return next(model_problems(model, source, batch, labels, True, partial(_build, model, source)), None)


def _weights(model: Model, source: Source) -> str | None:
    for own in dict.fromkeys((model, replace(model, weights="default"))):
        first, again = (_build(own, source).state_dict() for _ in range(2))
        if any(not torch.equal(each, again[name]) for name, each in first.items()):
            text = f"expected the same weights again with weights={own.weights}, got others"
            return f"{text}; draw them with PyTorch's own functions"
    return None


def _repeated(model: Model, source: Source) -> str | None:
    network, batch = _build(model, source), _inputs(model, source)
    given, before = batch.clone(), torch.random.get_rng_state()
    first, again = network(batch), network(given.clone())
    if not torch.equal(batch, given):
        return f"changed the {source.modality.name} in place; work on a copy"
    if not torch.equal(first, again):
        return "expected the same scores again, got others; draw nothing in evaluation mode"
    if not torch.equal(before, torch.random.get_rng_state()):
        return "used PyTorch's global random generator; draw nothing in evaluation mode"
    return None
