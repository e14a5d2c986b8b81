"""How wide a batch is, and whether it is compiled: decided before the start, and announced."""

import math

import torch

from bench.attacks import Attack, Resources
from bench.attacks.batched import GRAIN
from bench.attacks.dlg import DLG
from sweeps.checks import is_batched
from sweeps.spec import Sweep

WIDEST = {"cpu": 64, "cuda": 1024}  # slots: wider batches gain little (docs/LOG.md)
WORTH_COMPILING = 2_000_000  # iterations of the whole sweep; below, compiling costs more than it saves


def choose(sweep: Sweep, pending: int, workers: int, device: str, slots: int | None) -> Resources:
    """The width that suits what there is to do, and whether to compile.

    Args:
        sweep: all of it: a resumed sweep is compiled if and only if the whole one was.
        pending: how many trials are to be run.
        workers: among which they are shared.
        device: of the workers, such as `cpu` or `cuda:0`.
        slots: the width that was asked for, if any.
    """
    if slots is None:
        kind = torch.device(device).type
        share = GRAIN * math.ceil(pending / workers / GRAIN)
        slots = max(GRAIN, min(WIDEST[kind], share))
    each = len(sweep) // len(sweep.attacks)
    iterations = sum(each * longest(choice.value) for choice in sweep.attacks)
    return Resources(device, slots, compiled=iterations >= WORTH_COMPILING)


def longest(attack: Attack) -> int:
    """The most iterations that one trial of an attack can take in a batch."""
    return attack.steps * attack.max_iter if isinstance(attack, DLG) and is_batched(attack) else 0
