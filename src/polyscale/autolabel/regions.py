"""Connected regions of equal labels that are too small, in numpy alone.

The image is first cut into horizontal runs; a street scene has a hundred times fewer runs than pixels. Runs that touch
are then joined: each passes on the smallest number that it knows, and jumps over chains (as in Shiloach and Vishkin
1982). So a snake through the whole image takes a few dozen rounds rather than thousands.
"""

from typing import Any

import numpy as np

from polyscale.labels import IGNORE

__all__ = ["small_regions"]

Array = np.ndarray[Any, np.dtype[Any]]


def small_regions(labels: Array, smallest: int, spared: Array | None = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where 4-connected regions of one label have fewer than ``smallest`` pixels; ignored pixels are in no region.

    Args:
        labels: (H, W) uint8 train ids or ``IGNORE``.
        smallest: in pixels.
        spared: (H, W) bool; a region with such a pixel stays.

    Example:
        >>> small_regions(np.array([[1, 1, 2], [1, 3, 2]], np.uint8), 2).astype(int).tolist()
        [[0, 0, 0], [0, 1, 0]]
    """
    height, width = labels.shape
    starts = np.ones((height, width), dtype=bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    first = np.flatnonzero(starts)
    length = np.diff(first, append=height * width)
    value = labels.ravel()[first]
    region = _joined(first, length, value, width)
    size = np.bincount(region, weights=length, minlength=len(first))
    small = (size[region] < smallest) & (value != IGNORE)
    if spared is not None:
        holds = np.add.reduceat(spared.ravel().astype(np.int64), first) > 0
        kept = np.zeros(len(first), dtype=bool)
        kept[region[holds]] = True
        small &= ~kept[region]
    return np.repeat(small, length).reshape(height, width)


def _joined(first: Array, length: Array, value: Array, width: int) -> Array:
    """For each run the smallest number among the runs of its region."""
    # Runs of neighbouring rows touch where the lower one, shifted up by a row, overlaps; both lists are sorted.
    last = first + length - 1
    low = np.searchsorted(last, first - width)
    high = np.searchsorted(first, last - width, side="right")
    count = np.maximum(high - low, 0)
    count[first < width] = 0
    below = np.repeat(np.arange(len(first)), count)
    offset = np.arange(len(below)) - np.repeat(np.cumsum(count) - count, count)
    above = np.repeat(low, count) + offset
    same = value[above] == value[below]
    above, below = above[same], below[same]
    root = np.arange(len(first))
    while True:
        one, other = root[above], root[below]
        if np.array_equal(one, other):
            return root
        # Hang the larger root under the smaller one, then let everything point at the top.
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(jumped := root[root], root):
            root = jumped
