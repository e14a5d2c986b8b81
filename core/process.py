"""Prepares a process so that its numbers are reproducible."""

import torch


def prepare_worker() -> None:
    """Configure PyTorch in a worker process.

    One thread: workers do not compete for cores, and sums do not depend on the number of workers.
    No TF32, which PyTorch uses for convolutions on a GPU: its 10-bit mantissa is less precise than float32.
    No cuDNN algorithm whose order of summation is not fixed.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
