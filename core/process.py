"""What prepares a process for work whose numbers can be trusted."""

import torch


def prepare_worker() -> None:
    """Settings of a worker's process.

    One thread: workers do not fight for cores, and sums come out the same however many there are.
    No TF32, which PyTorch uses in convolutions on a GPU: its ten bits are no float32. And no algorithm of
    cuDNN's that adds up in an order of its own.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
