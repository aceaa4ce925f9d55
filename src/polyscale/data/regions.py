"""Connected regions of equal values, in numpy alone.

The image is first cut into horizontal runs; a street scene has a hundred times fewer runs than pixels. Runs that touch
are then joined: each passes on the smallest number that it knows, and jumps over chains (as in Shiloach and Vishkin
1982). So a snake through the whole image takes a few dozen rounds rather than thousands.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Regions", "find_regions"]

Array = np.ndarray[Any, np.dtype[Any]]


class Regions(NamedTuple):
    """The 4-connected regions of an image (H, W), numbered from 0 in the order of their first pixels.

    Attributes:
        shape: (H, W).
        first: flat position of each run's first pixel.
        length: of each run, in pixels.
        region: of each run.
        value: of each region.
    """

    shape: tuple[int, int]
    first: Array
    length: Array
    region: Array
    value: Array

    @property
    def size(self) -> Array:
        """Pixels of each region, int64."""
        return self._summed(self.length)

    def total(self, weights: Array) -> Array:
        """Sum of whole numbers (H, W) over each region, int64."""
        return self._summed(np.add.reduceat(weights.ravel().astype(np.int64), self.first))

    def boxes(self) -> Array:
        """(R, 4) top, left, bottom, right of each region, the last two one past its pixels."""
        width = self.shape[1]
        top, left = self.first // width, self.first % width
        boxes = np.full((len(self.value), 4), -1, dtype=np.int64)
        boxes[:, :2] = self.shape
        np.minimum.at(boxes[:, 0], self.region, top)
        np.minimum.at(boxes[:, 1], self.region, left)
        np.maximum.at(boxes[:, 2], self.region, top + 1)
        np.maximum.at(boxes[:, 3], self.region, left + self.length)
        return boxes

    def spread(self, values: Array) -> Array:
        """One value for each region, as an image (H, W)."""
        return np.repeat(values[self.region], self.length).reshape(self.shape)

    def _summed(self, of_runs: Array) -> Array:
        # Doubles are exact up to 2**53.
        return np.bincount(self.region, weights=of_runs, minlength=len(self.value)).astype(np.int64)


def find_regions(values: Array) -> Regions:
    """The 4-connected regions of equal values.

    Args:
        values: (H, W) whole numbers, not empty.

    Example:
        >>> found = find_regions(np.array([[1, 1, 2], [1, 3, 2]]))
        >>> found.value.tolist(), found.size.tolist()
        ([1, 2, 3], [3, 2, 1])
    """
    height, width = values.shape
    starts = np.ones((height, width), dtype=bool)
    starts[:, 1:] = values[:, 1:] != values[:, :-1]
    first = np.flatnonzero(starts)
    length = np.diff(first, append=height * width)
    value = values.ravel()[first]
    roots, region = np.unique(_joined(first, length, value, width), return_inverse=True)
    return Regions((height, width), first, length, region, value[roots])


def _joined(first: Array, length: Array, value: Array, width: int) -> Array:
    """The smallest number among the runs of its region, for each run."""
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
