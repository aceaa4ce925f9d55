"""Checks that the palettes of masks agree: an id that has two colours has two meanings.

Colour masks of a painting program, saved as palette PNGs, number their colours anew in each file. Read by their ids
they look like labels, and are none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from polyscale.data.images import open_image
from polyscale.data.items import DataError, Item
from polyscale.data.masks import IndexMask, palette_of, read_index_mask
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["Color", "Palettes", "check_some_palettes", "colors_of", "palette_error", "spread"]

Color = tuple[int, int, int]
Value = TypeVar("Value")

_LOOKED_AT = 8
"""Masks whose palettes are compared when a data set is opened."""


class Palettes:
    """The colour of each id in the masks seen so far."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Color, Path]] = {}

    def disagreement(self, path: Path, colors: Mapping[int, Color]) -> str | None:
        """Add a mask; what is wrong where it gives an id another colour than a mask before it."""
        for number, color in colors.items():
            other, owner = self._seen.setdefault(number, (color, path))
            if other != color:
                return (
                    f"{path} and {owner} have different palettes: id {number} is {color} in the one and {other} in the "
                    "other; set color_coded: true in data.yaml to read the colours, or, if ids mean the same in all "
                    "masks, save them as grey PNGs"
                )
        return None


def colors_of(mask: IndexMask, space: LabelSpace | None = None) -> dict[int, Color]:
    """The palette's colour of each id that occurs in a mask and counts; empty where its palette says nothing.

    Args:
        mask: as it was read.
        space: ids that it ignores are left out; without it, 255 is.
    """
    if mask.palette is None:
        return {}
    ids = np.flatnonzero(np.bincount(mask.ids.reshape(-1), minlength=1))
    ids = ids[ids < len(mask.palette)]
    colors = {int(number): _color(mask.palette[number]) for number in ids}
    if all(color == (number, number, number) for number, color in colors.items()):
        return {}  # grey values written as a palette
    if space is None:
        colors.pop(IGNORE, None)
        return colors
    known = space.model_copy(update={"ignore_unknown": True}).encode(ids)  # unknown ids are a problem of their own
    return {number: colors[number] for number in ids[known != IGNORE].tolist()}


def check_some_palettes(items: Sequence[Item], space: LabelSpace, where: str) -> None:
    """Compare the palettes of a few masks of a data set, which takes a hundredth of a second.

    Raises:
        UserError: two of them disagree; the message names both.
    """
    paths = [item.mask for item in items if item.mask is not None]
    chosen = spread(paths)
    tables = [table.tobytes() for path in chosen if (table := _palette(path)) is not None]
    shortest = min(map(len, tables), default=0)
    if len({table[:shortest] for table in tables}) < 2:
        return
    palettes = Palettes()
    for path in chosen:
        try:
            problem = palettes.disagreement(path, colors_of(read_index_mask(path), space))
        except UserError:
            continue  # a damaged mask is told of when it is read
        if problem is not None:
            raise palette_error(where, problem)


def spread(values: Sequence[Value]) -> list[Value]:
    """At most eight of the values, evenly spread."""
    return [values[k] for k in np.linspace(0, len(values) - 1, min(_LOOKED_AT, len(values)), dtype=int).tolist()]


def palette_error(where: str, problem: str) -> DataError:
    """The error of a data set whose palettes differ."""
    return DataError(f"the masks of {where} cannot be read by their ids: {problem}", "palette")


def _palette(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    try:
        with open_image(path) as image:
            return palette_of(image)
    except UserError:
        return None


def _color(values: np.ndarray[Any, Any]) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue
