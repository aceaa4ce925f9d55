"""What a frame of the result shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from polyscale import pictures
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["SHOWN", "check_shown", "draw"]

Array = np.ndarray[Any, Any]

SHOWN = ("overlay", "side", "masks", "attention")
"""What can be shown: class colours over the frame, the frame beside that, class colours alone, or the overlay and how
much each scale counts."""

_WIDEST = 1920
"""Width of a panel of several pictures, about, in pixels."""


def check_shown(shown: str) -> None:
    """Make sure that this can be shown.

    Raises:
        UserError: it is none of ``SHOWN``.
    """
    if shown not in SHOWN:
        raise UserError(f"unknown picture {shown!r}; choose from {', '.join(SHOWN)}")


def draw(
    shown: str,
    image: Array,
    labels: Array,
    weights: Mapping[float, Array],
    space: LabelSpace,
    legend: bool = False,
) -> Array:
    """One picture of the result.

    Args:
        shown: one of ``SHOWN``.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) train ids.
        weights: scale -> how much it counts in each pixel, (H, W) in [0, 1]; read for ``attention`` only.
        space: names and colours of the classes.
        legend: put these below the picture (``attention`` always does).

    Returns:
        (h, w, 3) uint8 RGB.
    """
    if shown == "masks":
        return _above(space.colorize(labels), space, legend)
    laid_over = pictures.overlay(image, labels, space, lines=True)
    if shown == "overlay":
        return _above(np.asarray(laid_over), space, legend)
    if shown == "side":
        return _above(np.concatenate([image, np.asarray(laid_over)], axis=1), space, legend)
    cells = [("classes", laid_over)]
    cells += [(f"weight of {scale:g}x", pictures.heat_map(weights[scale])) for scale in sorted(weights)]
    columns = 2 if len(cells) <= 4 else 3
    width = min(image.shape[1], _WIDEST // columns)
    size = (width, max(1, round(width * image.shape[0] / image.shape[1])))
    cells = [(caption, cell.convert("RGB").resize(size, Image.Resampling.BOX)) for caption, cell in cells]
    wide = columns * width
    return np.asarray(pictures.panel(cells, columns, pictures.legend(space, wide)))


def _above(picture: Array, space: LabelSpace, legend: bool) -> Array:
    """The picture, above the legend where that is wanted."""
    if not legend:
        return picture
    below = np.asarray(pictures.legend(space, picture.shape[1]))
    return np.concatenate([picture, below[:, : picture.shape[1]]], axis=0)
