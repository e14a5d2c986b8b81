"""Prepares a process so that its numbers are reproducible."""

import torch
from threadpoolctl import threadpool_limits


def prepare_worker() -> None:
    """Configure PyTorch in a worker process.

    One thread, also of the BLAS behind numpy and scipy, which splits long sums among as many threads as there
    are cores: workers do not compete for cores, and sums do not depend on the number of workers or cores.
    No TF32, which PyTorch uses for convolutions on a GPU: its 10-bit mantissa is less precise than float32.
    No cuDNN algorithm whose order of summation is not fixed.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
