"""Runs a network under SecretFlow's SPU: `python -I secretflow_program.py FOLDER`, where `spu` is installed.

FOLDER holds job.json and job.npz, which `secretflow.py` writes; the scores go to scores.npy in it. Lines on
the output say how far it is. Nothing of leakbench is imported: that environment does not have it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import spu
import spu.utils.simulation as simulation
from jax import lax

PARTIES = {"SEMI2K": 2, "ABY3": 3}


def main(folder: Path) -> None:
    """Classify the images of a job, batch by batch."""
    job = json.loads((folder / "job.json").read_text())
    arrays = dict(np.load(folder / "job.npz"))
    images = arrays.pop("images")
    config = spu.RuntimeConfig(
        protocol=getattr(spu.ProtocolKind, job["protocol"]),
        field=spu.FieldType.FM64,
        fxp_fraction_bits=job["bits"],
    )
    config.enable_pphlo_profile = True  # its last line has the bytes that were sent
    simulator = simulation.Simulator(PARTIES[job["protocol"]], config)
    shared = simulation.sim_jax(simulator, lambda values, weights: network(values, weights, job["steps"]))
    scores, seconds = [], 0.0
    for start in range(0, len(images), job["batch"]):
        began = time.process_time()
        scores.append(np.asarray(shared(images[start : start + job["batch"]], arrays)))
        seconds += time.process_time() - began
        print("leakbench", start + len(scores[-1]), seconds, flush=True)
    np.save(folder / "scores.npy", np.concatenate(scores))


def network(values: Any, weights: dict[str, Any], steps: list[dict[str, Any]]) -> Any:
    """The scores of images (B, C, H, W), by the steps of `steps.py`."""
    for number, step in enumerate(steps):
        values = take(step, values, weights.get(f"{number}.weight"), weights.get(f"{number}.bias"))
    return values


def take(step: dict[str, Any], values: Any, weight: Any, bias: Any) -> Any:
    """One step."""
    if step["kind"] == "flatten":
        return values.reshape(values.shape[0], -1)
    if step["kind"] == "ReLU":
        return jnp.maximum(values, 0)
    if step["kind"] == "linear":
        scores = values @ weight.T
        return scores if bias is None else scores + bias
    padding = [(each, each) for each in step["padding"]]
    if step["kind"] == "average pool":
        sizes, strides = (1, 1, *step["window"]), (1, 1, *step["stride"])
        sums = lax.reduce_window(values, 0.0, lax.add, sizes, strides, [(0, 0), (0, 0), *padding])
        return sums / (step["window"][0] * step["window"][1])
    scores = lax.conv_general_dilated(values, weight, step["stride"], padding)
    return scores if bias is None else scores + bias[None, :, None, None]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
