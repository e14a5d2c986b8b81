"""Names the hardware that determines rounding: rows are equal to the bit only on equal hardware."""

import os

import torch

LIMITS = {  # variables that keep a library from using some instructions, and their usual values
    "ONEDNN_MAX_CPU_ISA": "",
    "DNNL_MAX_CPU_ISA": "",
    "MKL_ENABLE_INSTRUCTIONS": "",
    "MKL_CBWR": "AVX2,STRICT",  # see `leakbench/__init__.py`
}


def hardware_of(device: str) -> str:
    """The instruction set that PyTorch uses on the CPU, such as `AVX2`, or the name of a GPU.

    Each of them sums in a different order, which affects the last digits of a row.

    Args:
        device: of this machine, such as `cpu` or `cuda:0`.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    set_here = {name: os.environ.get(name, usual) for name, usual in LIMITS.items()}
    limits = [f"{name}={value}" for name, value in set_here.items() if value != LIMITS[name]]
    return " ".join([torch.backends.cpu.get_cpu_capability(), *limits])
