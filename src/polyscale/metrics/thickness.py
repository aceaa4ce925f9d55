"""Position of a pixel on its object: how thick the true object is there, and how far the object's border is.

Both are measured with squares, so that one pass serves all classes: a square window holds one label where its minimum
and its maximum are equal. What is diagonal counts as thinner than across its own direction.
"""

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.labels import IGNORE
from polyscale.metrics.boundary import sliding

__all__ = ["BORDER_BINS", "THICKNESS_BINS", "border_bins", "thickness_bins"]

THICKNESS_BINS = (2, 5, 15)
"""The last thickness of each bin but the last, in pixels: 1-2, 3-5, 6-15, and more."""

BORDER_BINS = (1, 2, 4, 8)
"""The last distance of each bin but the last, in pixels."""


def thickness_bins(labels: Tensor, last: tuple[int, ...] = THICKNESS_BINS) -> Tensor:
    """Bin of each pixel by the side of the largest square around it that lies within its own class.

    A pixel is thicker than t where some square of t + 1 pixels a side contains it and holds no other label: the
    morphological opening of its class by that square keeps it. An ignored pixel and the outside of the image count as
    another class.

    Args:
        labels: (H, W) uint8, train ids or ``IGNORE``.
        last: the last thickness of each bin but the last, rising.

    Returns:
        (H, W) uint8, 0 to ``len(last)``; what it says of ignored pixels has no meaning.
    """
    bins = torch.zeros(labels.shape, dtype=torch.uint8, device=labels.device)
    for thickness in last:
        side = thickness + 1
        if side > min(labels.shape):
            break
        plain = (sliding(labels, side, torch.maximum) == sliding(labels, side, torch.minimum)).view(torch.uint8)
        # Each pixel asks all windows that contain it; beyond the image there are none.
        around = functional.pad(plain, (side - 1,) * 4)
        bins += sliding(around, side, torch.maximum)
    return bins


def border_bins(labels: Tensor, last: tuple[int, ...] = BORDER_BINS) -> Tensor:
    """Bin of each pixel by its distance to the contour of its object, as ``boundary_band`` measures it.

    Args:
        labels: (H, W) uint8, train ids or ``IGNORE``.
        last: the last distance of each bin but the last, rising.

    Returns:
        (H, W) uint8, 0 to ``len(last)``; a pixel that touches another class has distance 1, bin 0.
    """
    height, width = labels.shape
    bins = torch.zeros(labels.shape, dtype=torch.uint8, device=labels.device)
    highest = lowest = functional.pad(labels, (last[-1],) * 4, value=IGNORE)
    done = 0
    for distance in last:
        # A window grows from the one before it.
        side, done = 2 * (distance - done) + 1, distance
        highest, lowest = sliding(highest, side, torch.maximum), sliding(lowest, side, torch.minimum)
        margin = last[-1] - distance
        same = (highest == lowest)[margin : margin + height, margin : margin + width]
        bins += same
    return bins.masked_fill_(labels == IGNORE, 0)
