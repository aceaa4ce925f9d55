"""Confidence maps beside auto-labels, as weights of their pixels.

Unusual here: nothing of the teacher is needed, only the folder that ``polyscale autolabel --confidence`` left: its
``autolabel.json`` names the lower bound of each confidence level, and ``confidence/NAME.png`` holds the level of each
square of ``masks/NAME.png``. The last level, 1, is that of labels that were given and not predicted; where there are
any, ``certain/NAME.png`` marks them pixel by pixel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.data.items import DataError, Item
from polyscale.data.masks import read_mask
from polyscale.errors import UserError

__all__ = ["ConfidenceMaps", "stride_of"]

_MEGAPIXEL = 1_000_000


def stride_of(chosen: int | None, height: int, width: int) -> int:
    """How many pixels a side one stored value covers.

    Args:
        chosen: the folder's ``confidence_stride``; None for 4 in images of a megapixel and more, and 2 in smaller ones.
        height: of the image.
        width: of the image.
    """
    return chosen or (4 if height * width >= _MEGAPIXEL else 2)


class ConfidenceMaps:
    """The confidence levels of the images of one auto-labelled folder.

    Args:
        root: the folder.

    Attributes:
        levels: (K,) float32, the lower bound of each level, rising, in [0, 1].

    Raises:
        UserError: the folder was not auto-labelled, or without confidence maps.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            description = json.loads((root / "autolabel.json").read_text(encoding="utf-8"))
            levels, stride = description["confidence_levels"], description["confidence_stride"]
            self._stride = None if stride is None else int(stride)
            self._has_certain = description["settings"]["coarse_labels"] is not None
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(
                f"{root} has no readable autolabel.json, so it holds no confidence maps; {_REMEDY}"
            ) from None
        if not levels:
            raise UserError(f"{root} was labelled without confidence maps; {_REMEDY}")
        self.levels: np.ndarray[Any, np.dtype[np.float32]] = np.array(levels, dtype=np.float32)

    def read(self, item: Item, size: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The level of each pixel of an item's mask.

        Args:
            item: one of the folder's.
            size: (H, W) of its mask.

        Returns:
            (H, W) uint8 in 0 .. K-1.

        Raises:
            UserError: the map is missing, damaged or of another size.
        """
        assert item.mask is not None, item.name
        try:
            name = item.mask.resolve().relative_to((self.root / "masks").resolve())
        except ValueError:
            raise UserError(f"{item.mask} is not in {self.root / 'masks'}, so it has no confidence map") from None
        path, certain = self.root / "confidence" / name, self.root / "certain" / name
        found = read_mask(path)
        if found.dtype != np.uint8 or found.max(initial=0) >= len(self.levels):
            raise DataError(f"{path} holds more than the {len(self.levels)} levels of {self.root / 'autolabel.json'}")
        height, width = size
        stride = stride_of(self._stride, height, width)
        if found.shape != (-(-height // stride), -(-width // stride)):
            raise DataError(f"{path} does not have the size of {item.mask}; label the image again", "size")
        levels = np.repeat(np.repeat(found.astype(np.uint8), stride, axis=0), stride, axis=1)[:height, :width]
        if self._has_certain:
            marked = read_mask(certain)
            if marked.shape != levels.shape:
                raise DataError(f"{certain} does not have the size of {item.mask}; label the image again", "size")
            levels[marked != 0] = len(self.levels) - 1
        return levels


_REMEDY = "make them with `polyscale autolabel --confidence`, or set confidence_power to 0"
