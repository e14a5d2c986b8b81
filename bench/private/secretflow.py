"""Shared inference by SecretFlow's SPU, in a process and an environment of its own (`make spu`)."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leakbench.bench.private.answers import Answers, Observer
from leakbench.bench.private.steps import Step
from leakbench.bench.sharing import FixedPoint
from leakbench.core.errors import UserError

PROTOCOLS = {"SEMI2K": 2, "ABY3": 3}  # {name: parties}
PROGRAM = Path(__file__).with_name("secretflow_program.py")
_PROGRESS = re.compile(r"leakbench (\d+) (\S+)")
_BYTES = re.compile(r"total send bytes (\d+)")


def python_of(environment: Path) -> Path:
    """The interpreter of an environment with `spu` in it.

    Raises:
        UserError: there is none.
    """
    python = environment / "bin" / "python"
    if not any(environment.glob("lib/python*/site-packages/spu/__init__.py")) or not python.exists():
        text = f"{environment}: expected an environment with SecretFlow's spu, found none"
        raise UserError(f"{text}; `make spu` makes it, in .venv-spu")
    return python


def classify(
    steps: Sequence[Step],
    images: Tensor,
    encoding: FixedPoint,
    protocol: str,
    environment: Path,
    batch: int,
    observe: Observer = lambda _: None,
) -> Answers:
    """The scores of secret-shared images (N, C, H, W), by a secret-shared network.

    Args:
        steps: of the network.
        images: float32.
        encoding: of base 2: SPU has no other.
        protocol: one of PROTOCOLS.
        environment: that has `spu`.
        batch: images at once.
        observe: see `Observer`.

    Raises:
        UserError: no such environment, another base, or SPU ended with an error.
    """
    if encoding.base != 2:
        raise UserError(f"{encoding.text}: expected a precision in bits, as SPU has no other; use --bits")
    python = python_of(environment)
    with TemporaryDirectory() as name:
        folder = Path(name)
        _write_job(folder, steps, images, encoding.digits, protocol, batch)
        seconds, sent, said = 0.0, 0, ""
        with _running([str(python), "-I", str(PROGRAM), name]) as process:
            for line in process.stdout or ():
                said = line.strip() or said
                if progress := _PROGRESS.match(line):
                    seconds = float(progress[2])
                    observe(int(progress[1]))
                elif found := _BYTES.search(line):
                    sent += int(found[1])
        if process.returncode:
            raise UserError(f"SPU ended with status {process.returncode}: {said[:300]}")
        scores = torch.from_numpy(np.load(folder / "scores.npy")).double()
    # only the first party tells what it sends; all send alike, as far as the protocol is symmetric
    return Answers(scores, seconds, party_bytes=sent * PROTOCOLS[protocol])


def _write_job(
    folder: Path, steps: Sequence[Step], images: Tensor, bits: int, protocol: str, batch: int
) -> None:
    arrays = {"images": images}
    for number, step in enumerate(steps):
        weights = {"weight": step.weight, "bias": step.bias}
        arrays |= {f"{number}.{name}": each for name, each in weights.items() if each is not None}
    numbers: dict[str, Any] = {name: each.numpy() for name, each in arrays.items()}
    np.savez(folder / "job.npz", **numbers)
    described = [
        {"kind": each.kind.value, "window": each.window, "stride": each.stride, "padding": each.padding}
        for each in steps
    ]
    job = {"protocol": protocol, "bits": bits, "batch": batch, "steps": described}
    (folder / "job.json").write_text(json.dumps(job))


@contextmanager
def _running(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """A process, its output and errors in one stream; it ends with the block."""
    hidden = {"PYTHONPATH", "PYTHONHOME"}  # of this environment
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
            process.wait()
        finally:
            process.kill()
