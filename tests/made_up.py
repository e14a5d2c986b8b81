"""Rows that no attack gave, to see what is made of them."""

import math

import pandas as pd

from sweeps.records import ROW_DTYPES


def table(*cells):
    """Rows from (defense, index, start, match_loss, ssim) with the rest made up."""
    rows = []
    for number, (defense, index, start, match_loss, ssim) in enumerate(cells):
        failed = match_loss is None
        mse = None if failed else (1 - ssim) / 10 + 1e-6
        name, _, setting = defense.removesuffix(")").partition("(")
        rows.append(
            dict.fromkeys(ROW_DTYPES)
            | {
                "key": str(number), "dataset": "cifar10-sample", "index": index, "model": "lenet",
                "model_seed": 0, "attack": "dlg", "defense": defense, "family": name,
                "strength": float(setting.partition("=")[2]) if setting else None, "start": start,
                "status": "error" if failed else "budget", "reason": "why", "match_loss": match_loss,
                "ssim": ssim, "mse": mse, "psnr": None if failed else -10 * math.log10(mse),
                "seconds": 1.0, "device": "cpu", "torch_version": "2",
            }
        )  # fmt: skip
    return pd.DataFrame(rows).astype(ROW_DTYPES)
