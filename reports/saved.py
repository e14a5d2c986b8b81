"""What an attack recovered from a saved gradient."""

from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from rich.table import Table
from torch import Tensor

from leakbench.bench.attacks import Found
from leakbench.bench.metrics import match, score
from leakbench.reports.pictures import side_by_side
from leakbench.reports.terminal import plain_table, put_below

ENLARGED = 4  # times, in the pictures that are written
CAPTION = (
    "*: the start of lowest objective (for dlg: the match loss), which is all that an attacker sees\n"
    "of norm: match loss / squared norm of the gradient; well below 1e-4 the gradients match"
)


def measured(found: Found, match_loss: float, norm: float, truth: Tensor | None) -> Iterator[tuple[str, Any]]:
    """The columns of a start, with scores only if the images (N, C, H, W) are known.

    Args:
        found: the result of that start.
        match_loss: its match loss.
        norm: the L2 norm of the gradient.
        truth: the images behind the gradient.
    """
    yield "status", found.status.value
    yield "reason", found.reason
    yield "match_loss", match_loss
    yield "of_norm", match_loss / norm**2 if norm else nan
    if found.classes is not None:
        yield "labels", " ".join(map(str, found.classes.tolist()))
    if truth is not None:
        scores = score(truth, found.images[match(found.images, truth)])
        yield from (("ssim", scores.ssim), ("psnr", scores.psnr), ("mse", scores.mse))


def starts_table(rows: pd.DataFrame, best: int, title: str) -> Table:
    """One line per start; a star marks the one that an attacker would keep."""
    shown = rows.drop(columns="reason")
    table = plain_table(title, [str(name).replace("_", " ") for name in shown], first="start")
    for number, row in enumerate(shown.itertuples(index=False)):
        cells = (f"{each:.3g}" if isinstance(each, float) else str(each) for each in row)
        table.add_row(f"{number} *" if number == best else str(number), *cells)
    put_below(table, CAPTION)
    return table


def write_pictures(found: Found, truth: Tensor | None, folder: Path) -> Iterator[Path]:
    """Write each image of a reconstruction as a PNG, next to the original if that is known.

    Raises:
        OSError: it cannot be written.
    """
    order = range(len(found.images)) if truth is None else match(found.images, truth)
    for number, place in enumerate(order):
        rebuilt = found.images[place].nan_to_num().clamp(0, 1).numpy()
        image = side_by_side([rebuilt] if truth is None else [truth[number].numpy(), rebuilt])
        path = folder / f"image-{number}.png"
        size = image.width * ENLARGED, image.height * ENLARGED
        image.resize(size, Image.Resampling.NEAREST).save(path)
        yield path
