"""Connected regions of equal labels that are too small."""

from typing import Any

import numpy as np

from polyscale.data.regions import find_regions
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
    found = find_regions(labels)
    small = (found.size < smallest) & (found.value != IGNORE)
    if spared is not None:
        small &= found.total(spared) == 0
    result: np.ndarray[Any, np.dtype[np.bool_]] = found.spread(small)
    return result
