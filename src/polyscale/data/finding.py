"""Facts that reading one item of a data set shows."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from polyscale.data.check_report import Problem
from polyscale.data.file_data import FileData
from polyscale.data.images import bits_of, open_image
from polyscale.data.items import DataError, Item, SegmentationData
from polyscale.data.left_out import left_out
from polyscale.data.palettes import Color
from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["Finding", "look_into"]

DARK = 32
"""An image whose largest value is below it may hold 8 to 12 bits in a file of 16."""


class Finding(NamedTuple):
    """Result of reading one item.

    Attributes:
        problems: all that is wrong with it, or odd.
        size: (H, W) of the image.
        digest: of the decoded image; equal images have equal ones.
        counts: pixels of each train id, (C + 1,), ignored pixels last.
        labelled: whether a pixel counts; not told where ``counts`` are.
        colors: what the mask's palette gives to its ids.
    """

    problems: tuple[Problem, ...]
    size: tuple[int, int] | None = None
    digest: bytes | None = None
    counts: np.ndarray[Any, np.dtype[np.int64]] | None = None
    labelled: bool = False
    colors: Mapping[int, Color] = MappingProxyType({})

    @property
    def usable(self) -> bool:
        """Whether the item can be trained and scored with."""
        return not any(problem.is_error for problem in self.problems)


def look_into(data: SegmentationData, index: int, count: bool = True) -> Finding:
    """Read one item and note all that is wrong with it: a damaged image does not hide a damaged mask.

    Args:
        data: the data set.
        index: of the item.
        count: also count its pixels and look for what is odd but no error.
    """
    item = data.items[index]
    problems: list[Problem] = []
    image = labels = None
    colors: dict[int, Color] = {}
    try:
        if isinstance(data, FileData):
            image = data.read_image(index)
        else:
            _, image, labels = data.read(index)
    except UserError as error:
        problems.append(_problem(item, error))
    if isinstance(data, FileData):
        try:
            labels, colors = data.read_labels_and_colors(index)
            if labels is None and data.masks_required:
                problems.append(Problem("missing", item.name, f"{item.image} has no mask"))
        except UserError as error:
            problems.append(_problem(item, error))
        if image is not None and labels is not None and labels.shape != image.shape[:2]:
            problems.append(_problem(item, DataError(data.size_message(index, image.shape[:2], labels.shape), "size")))
    if not count or image is None:
        return Finding(tuple(problems), labelled=labels is not None and bool((labels != IGNORE).any()), colors=colors)
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    size = (image.shape[0], image.shape[1])
    counts = None
    if labels is not None and not problems:
        counts = np.bincount(labels.reshape(-1), minlength=IGNORE + 1)
        counts = np.append(counts[: data.label_space.num_classes], counts[IGNORE])
    if isinstance(data, FileData):
        problems += _oddities(item, int(image.max()))
    return Finding(tuple(problems), size, digest.digest(), counts, colors=colors)


def _oddities(item: Item, brightest: int) -> list[Problem]:
    """Oddities of an image's file that are no errors."""
    odd = []
    try:
        with open_image(item.image) as file:
            if (part := left_out(file)) is not None:
                odd.append(Problem("partial", item.name, f"{item.image} {part.message}"))
            if brightest < DARK:
                odd.append(Problem("dark", item.name, _dark(item.image, brightest, bits_of(item.image, file))))
    except UserError:
        pass  # told already
    return odd


def _dark(path: Path, brightest: int, bits: int) -> str:
    if bits > 8:
        return (
            f"{path} is dark: values up to {brightest} of 255 once its 16 bits are read as 8; if it holds 12 bits, "
            "multiply them by 16"
        )
    return f"{path} is dark: values up to {brightest} of 255; is it a picture, or a mask among the images?"


def _problem(item: Item, error: UserError) -> Problem:
    kind = error.kind if isinstance(error, DataError) else "unreadable"
    return Problem(kind, item.name, str(error), _group(item, error))


def _group(item: Item, error: UserError) -> str:
    """The message without what differs from file to file."""
    text = str(error)
    for path in (item.image, item.mask):
        text = text.replace(str(path), "it")
    return re.sub(r"[\d,]+", "N", text)
