"""Table 1 of the paper: how long it takes to recover several images from one gradient."""

import numpy as np
import pandas as pd

from leakbench.bench.verdicts import Scale
from leakbench.reports.names import setting_value
from leakbench.reports.paper.reference import reference
from leakbench.reports.statistics import ends, median_interval, wilson
from leakbench.sweeps.store import Store

RECOVERED_MSE = 1e-3  # of raw pixels, mean over the images of a batch: a PSNR of 30 dB


def batch_table(store: Store, rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One line per batch size, over all trials: an attack on a batch is one attempt.

    Columns: size, trials, recovered (the MSE fell to RECOVERED_MSE), rate, low, high, iterations (median
    until recovery) with its interval, ssim (median), leaked (trials whose worst
    image is a leak), paper (iterations) and recalled.
    """
    curves = store.curves(rows["key"])
    known = {batch.size: batch for batch in reference().batches}
    lines = []
    for size, own in rows.groupby(setting_value(rows, "protocol", "batch_size"), sort=True):
        steps = [until(curves[key].errors) for key in own["key"] if key in curves]
        reached = [step for step in steps if step is not None]
        rate = len(reached) / len(own)
        lines.append(
            {"size": size, "trials": len(own), "recovered": len(reached), "rate": rate}
            | ends("", wilson(rate, len(own)))
            | {"iterations": float(np.median(reached)) if reached else np.nan}
            | ends("iterations_", median_interval(reached))
            | {"ssim": own["ssim"].median(), "leaked": int((own["ssim_least"] >= scale.leak).sum())}
            | {"paper": known[size].iterations if size in known else None}
            | {"recalled": size in known and known[size].recalled}
        )
    return pd.DataFrame(lines)


def until(errors: np.ndarray) -> int | None:
    """The first outer step at which the images are recovered; None if they never are."""
    reached = np.flatnonzero(errors <= RECOVERED_MSE)
    return int(reached[0]) if len(reached) else None
