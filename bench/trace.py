"""The trace: the progress of an attack, recorded outside the attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from leakbench.bench.modalities import Spec


@dataclass(frozen=True)
class Texts:
    """Texts as they are kept: see `Modality.texts`."""

    truth: Sequence[str]
    reconstruction: Sequence[str]
    snapshots: Mapping[int, Sequence[str]]


@dataclass
class Trace:
    """The progress of an attack, compared with the true examples; the attack never sees it."""

    truth: Tensor | None  # images (N, C, H, W) or tokens (N, L); None: unknown
    errors: list[float] = field(default_factory=list)  # see `Modality.errors`: at the start, after each step
    snapshots: dict[int, Tensor] = field(default_factory=dict)  # {outer step: likewise}
    objective: list[float] = field(default_factory=list)  # at the start and after each step
    reconstruction: Tensor | None = None  # likewise, not clipped, in the order of the true ones
    texts: Texts | None = None  # all of that in letters, if that is how such examples are kept
    distances: dict[int, dict[str, float]] = field(default_factory=dict)  # {outer step: `distance_by_layer`}
    input_errors: dict[str, float] = field(default_factory=dict)  # {layer: relative error of its input}
    labels: list[int] = field(default_factory=list)  # of the reconstruction; empty: not looked for
    steps: int = 0  # outer steps taken


def texts_of(trace: Trace, spec: Spec) -> Texts | None:
    """What the trace holds in letters; None of examples that are not kept like that."""
    assert trace.reconstruction is not None
    found = spec.modality.texts(trace.reconstruction, spec)
    if not found:
        return None
    truth = () if trace.truth is None else spec.modality.texts(trace.truth, spec)
    snapshots = {step: spec.modality.texts(each, spec) for step, each in trace.snapshots.items()}
    return Texts(truth, found, snapshots)
