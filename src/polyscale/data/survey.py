"""Surveys a data set for a report: how much of each class, beside which other, in which part of the frame."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyscale.data.items import SegmentationData
from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["GRID", "Survey", "survey"]

Array = np.ndarray[Any, Any]

GRID = (24, 48)
"""Rows and columns of the map of where a class lives."""

LONGEST = 512
"""Of a larger mask, only every k-th pixel is counted."""


@dataclass(frozen=True)
class Survey:
    """Counts over the masks of one data set that can be read; C classes, I masks."""

    names: tuple[str, ...]
    shares: Array
    """(I, C) share of each class in the labelled pixels of each image, 0 to 1."""
    together: Array
    """(C, C) images in which both classes are."""
    where: Array
    """(C, *GRID) share of the pixels in this part of the frame that are of the class, 0 to 1, mean over all images."""
    indices: Array
    """(I,) which item of the data set each mask belongs to."""

    @property
    def num_images(self) -> Array:
        """Images that have the class, (C,)."""
        return np.asarray((self.shares > 0).sum(0))

    def typical_share(self, position: int) -> float | None:
        """Median share of a class in the images that have it."""
        present = self.shares[:, position]
        present = present[present > 0]
        return float(np.median(present)) if len(present) else None

    def examples(self, position: int, most: int) -> list[int]:
        """Items that have most of a class."""
        order = np.argsort(-self.shares[:, position], kind="stable")[:most]
        return [int(self.indices[k]) for k in order if self.shares[k, position] > 0]


def survey(
    data: SegmentationData, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Look at every mask; those that are missing or damaged are left out.

    Args:
        data: the data set.
        workers: number of threads.
        progress: called with (masks read, masks in all).
    """
    num_classes = data.label_space.num_classes
    shares, indices = [], []
    together = np.zeros((num_classes, num_classes), dtype=np.int64)
    where = np.zeros((num_classes, *GRID))
    labelled = np.zeros(GRID)
    with ThreadPoolExecutor(workers) as pool:
        for index, found in enumerate(pool.map(lambda k: _look(data, k, num_classes), range(len(data)))):
            if progress is not None:
                progress(index + 1, len(data))
            if found is None:
                continue
            counts = found.sum((1, 2))
            total = max(1, int(counts.sum()))
            shares.append(counts / total)
            indices.append(index)
            present = counts > 0
            together += np.outer(present, present)
            where += found
            labelled += found.sum(0)
    stacked = np.stack(shares) if shares else np.zeros((0, num_classes))
    return Survey(
        data.label_space.names, stacked, together, where / np.maximum(labelled, 1), np.array(indices, dtype=np.int64)
    )


def _look(data: SegmentationData, index: int, num_classes: int) -> Array | None:
    """Pixels of each class in each part of the frame, (C, *GRID); None where there is no mask that can be read."""
    try:
        labels = data.read_labels(index)
    except UserError:
        return None
    if labels is None or not (labels != IGNORE).any():
        return None
    step = max(1, -(-max(labels.shape) // LONGEST))
    some = labels[::step, ::step]
    rows = np.arange(some.shape[0]) * GRID[0] // some.shape[0]
    columns = np.arange(some.shape[1]) * GRID[1] // some.shape[1]
    place = rows[:, None] * GRID[1] + columns[None]
    joint = some.astype(np.int64) * (GRID[0] * GRID[1]) + place
    table = np.bincount(joint.reshape(-1), minlength=(IGNORE + 1) * GRID[0] * GRID[1])
    return np.asarray(table.reshape(IGNORE + 1, *GRID)[:num_classes])
