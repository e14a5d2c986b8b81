"""How pictures are shown: in a panel, on a sheet, or joined into one."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

MOST_COLUMNS = 10
FRAME = "#a40000"


class Sheet:
    """Pictures and text at positions in inches from the upper left corner.

    All share one panel: with a panel each, every fifty pictures would take a second to lay out.
    """

    def __init__(self, width: float, height: float):
        self.width = width
        self.figure = Figure(figsize=(width, height))
        self.panel = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.panel.axis("off")

    def show(self, image: np.ndarray, left: float, top: float, side: float) -> None:
        """Show a picture (C, H, W) in [0, 1], centred in a square."""
        height, width = (side * each / max(image.shape[1:]) for each in image.shape[1:])
        left, top = left + (side - width) / 2, top + (side - height) / 2
        place = (left, left + width, top + height, top)
        self.panel.imshow(_pixels(image), cmap="gray", vmin=0, vmax=1, extent=place, aspect="auto")

    def frame(self, left: float, top: float, side: float) -> None:
        """Draw a frame around a square."""
        self.panel.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=FRAME, linewidth=3))

    def write(self, text: str, x: float, y: float, size: float, **options: Any) -> None:
        """Write text at a position, aligned by `ha` and `va`."""
        self.panel.text(x, y, text, fontsize=size, **{"ha": "center", **options})


def two_lines(defense: str) -> str:
    """`gaussian(variance=0.01)` with its settings on a line of their own."""
    name, _, settings = defense.removesuffix(")").partition("(")
    return f"{name}\n{settings}".rstrip()


def spread(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, including the first and the last."""
    places = np.linspace(0, len(steps) - 1, min(len(steps), most)).round().astype(int)
    return [steps[place] for place in places]


def side_by_side(pictures: list[np.ndarray]) -> Image.Image:
    """Pictures (C, H, W) in [0, 1], joined into one."""
    strip = np.concatenate(pictures, axis=2)  # (C, H, N * W)
    return Image.fromarray(_pixels((strip * 255).round().astype(np.uint8)))


def _pixels(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W, C), or as (H, W) if it has one channel."""
    pixels = image.transpose(1, 2, 0)
    return pixels.squeeze(2) if pixels.shape[2] == 1 else pixels


def clear(panel: Axes) -> None:
    """Remove the ticks and the frame around a picture."""
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def show_image(panel: Axes, image: np.ndarray | None, title: str) -> None:
    """Show an image (C, H, W) in [0, 1], grey if it has one channel; nothing if it could not be read."""
    panel.set_title(title, fontsize=7, pad=3)
    if image is not None:
        panel.imshow(_pixels(image), cmap="gray", vmin=0, vmax=1)
