"""The trace: the progress of an attack, recorded outside the attack."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Trace:
    """The progress of an attack, compared with the true images; the attack never sees it."""

    truth: Tensor | None  # (N, C, H, W); None: unknown, and then nothing is compared with it
    image_mse: list[float] = field(default_factory=list)  # of raw pixels, at the start and after each step
    snapshots: dict[int, Tensor] = field(default_factory=dict)  # {outer step: (N, C, H, W)}
    objective: list[float] = field(default_factory=list)  # at the start and after each step
    reconstruction: Tensor | None = None  # (N, C, H, W), not clipped, in the order of the true images
    distances: dict[int, dict[str, float]] = field(default_factory=dict)  # {outer step: `distance_by_layer`}
    input_errors: dict[str, float] = field(default_factory=dict)  # {layer: relative error of its input}
    labels: list[int] = field(default_factory=list)  # of the reconstruction; empty: not looked for
    steps: int = 0  # outer steps taken
