"""The interface of a data set: items on disk, and samples as arrays.

A sample's labels are *train ids* already (0 .. C-1, and ``IGNORE`` for pixels that do not count), whatever ids the data
set uses on disk: nothing else needs to know data set ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["DataError", "Item", "Sample", "SegmentationData"]


class DataError(UserError):
    """One image or mask that cannot be used; ``kind`` says why, so that a check can count problems of a kind.

    Kinds: ``unreadable`` (missing, empty, damaged or not an image), ``ids`` (values outside the label space), ``size``
    (mask and image differ), ``missing`` (no mask where one is required), ``palette`` (palettes of masks differ).
    """

    # One positional argument and a default: what comes back from a worker process is rebuilt from its message alone.
    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class Item(NamedTuple):
    """One image of a data set and where its files are.

    Attributes:
        name: path relative to the split's folder without suffix, parts joined by ``/``; unique within the data set.
        image: the image file. A data set that draws its images gives a path that does not exist.
        mask: the mask file, or None where the image has no labels.
    """

    name: str
    image: Path
    mask: Path | None


class Sample(NamedTuple):
    """One image as it is read.

    Attributes:
        name: the item's name.
        image: (H, W, 3) uint8, RGB; (H, W, C) where a data set has other channels.
        labels: (H, W) uint8 train ids 0 .. C-1 or ``IGNORE``; None where the image has no labels.
    """

    name: str
    image: np.ndarray[Any, np.dtype[np.uint8]]
    labels: np.ndarray[Any, np.dtype[np.uint8]] | None


class SegmentationData(ABC):
    """A data set: a label space, a list of items, and a way to read one of them.

    Reading is pure: the same index gives the same sample in every process. A data set can be pickled (to worker
    processes). A subclass sets both attributes and writes ``read``.

    Attributes:
        label_space: the classes, and how ids on disk map to train ids.
        items: all items, sorted by name (in a mix of sources, within each source).
        num_channels: of its images.
    """

    label_space: LabelSpace
    items: Sequence[Item]
    num_channels: int = 3

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one item.

        Raises:
            UserError: a file is unreadable, its ids are outside the label space, or mask and image differ in size.
        """

    def read_labels(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """The labels alone, (H, W) uint8 train ids, or None where there is no mask; quicker where they are a file.

        Raises:
            UserError: as ``read``.
        """
        return self.read(index).labels
