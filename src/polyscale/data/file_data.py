"""A data set whose images and masks are files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.bands import BandsConfig, read_bands
from polyscale.data.images import read_image
from polyscale.data.items import DataError, Item, Sample, SegmentationData
from polyscale.data.layout import Found
from polyscale.data.masks import read_color_mask, read_index_mask
from polyscale.data.palettes import Color, colors_of
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["FileData"]


class FileData(SegmentationData):
    """A data set whose images and masks are files; see ``SegmentationData``.

    Attributes:
        label_space: the classes.
        items: sorted by name.
        orphans: masks that belong to no image.
        masks_required: an item without a mask is a fault (told by a check) rather than an unlabelled image.
        where: what the data set is called in messages.
        root: the folder of its files, which reports leave out of their paths.
        bands: how images of other channels than RGB are read; None reads RGB.

    With ``long_edge``, images and labels are resized when they are read, to this longer side in pixels.
    """

    def __init__(
        self,
        found: Found,
        label_space: LabelSpace,
        where: str,
        masks_required: bool = True,
        color_coded: bool = False,
        ignore_colors: Sequence[tuple[int, int, int]] = (),
        root: Path | None = None,
        long_edge: int | None = None,
        bands: BandsConfig | None = None,
    ) -> None:
        self.items: tuple[Item, ...] = found.items
        self.orphans = found.orphans
        self.label_space = label_space
        self.where = where
        self.masks_required = masks_required
        self.root = root
        self._color_coded = color_coded
        self._ignore_colors = tuple(ignore_colors)
        self._long_edge = long_edge
        self.bands = bands
        self.num_channels = 3 if bands is None else len(bands.channels)

    @property
    def reading(self) -> str:
        """All that decides how a mask's file becomes labels, as text; equal texts read equal files alike."""
        return f"{self.label_space.model_dump_json()} {self._color_coded} {self._ignore_colors} {self._long_edge}"

    def read_image(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The image alone as its file has it, (H, W, 3) uint8 RGB, or (H, W, C) with ``bands``."""
        path = self.items[index].image
        return read_image(path) if self.bands is None else read_bands(path, self.bands)

    def read_labels(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """The labels alone, (H, W) uint8 train ids, or None where there is no mask."""
        labels = self.read_labels_and_colors(index)[0]
        return labels if labels is None or self._long_edge is None else _resized_labels(labels, self._long_edge)

    def read_labels_and_colors(self, index: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]] | None, dict[int, Color]]:
        """The labels as their file has them, and the colours that its palette gives to ids (see ``palettes``)."""
        path = self.items[index].mask
        if path is None:
            return None, {}
        if self._color_coded:
            return read_color_mask(path, self.label_space, self._ignore_colors), {}
        mask = read_index_mask(path)
        try:
            return self.label_space.encode(mask.ids), colors_of(mask, self.label_space)
        except UserError as error:
            raise DataError(f"{path}: {error}", "ids") from None

    def read(self, index: int) -> Sample:
        """Read one item.

        Raises:
            UserError: a file is unreadable, its ids are outside the label space, or mask and image differ in size.
        """
        image, labels = self.read_image(index), self.read_labels_and_colors(index)[0]
        if labels is not None and labels.shape != image.shape[:2]:
            raise DataError(self.size_message(index, image.shape[:2], labels.shape), "size")
        if self._long_edge is not None:
            image = _resized_image(image, self._long_edge)
            labels = None if labels is None else _resized_labels(labels, self._long_edge)
        return Sample(self.items[index].name, image, labels)

    def size_message(self, index: int, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
        """The message, where sizes (height, width) of image and mask differ."""
        item = self.items[index]
        turned = (
            "; the image is shown rotated by its EXIF data while the mask fits the stored pixels: rotate the mask too"
            if mask == image[::-1]
            else "; a mask has one id for each pixel of its image: export it again at the image's size"
        )
        return f"{item.mask} is {mask[1]} x {mask[0]} pixels, but {item.image} is {image[1]} x {image[0]}{turned}"


def _resized_image(image: np.ndarray[Any, np.dtype[np.uint8]], long_edge: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bilinear with antialiasing."""
    height, width = _size(image.shape, long_edge)
    if (height, width) == image.shape[:2]:
        return image
    layers = [image] if image.shape[2] == 3 else [image[..., k] for k in range(image.shape[2])]
    resized = [np.array(Image.fromarray(x).resize((width, height), Image.Resampling.BILINEAR)) for x in layers]
    return resized[0] if image.shape[2] == 3 else np.stack(resized, axis=2)


def _resized_labels(labels: np.ndarray[Any, np.dtype[np.uint8]], long_edge: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The label under the centre of each new pixel."""
    height, width = _size(labels.shape, long_edge)
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    resized: np.ndarray[Any, np.dtype[np.uint8]] = labels[rows][:, columns]
    return resized


def _size(shape: tuple[int, ...], long_edge: int) -> tuple[int, int]:
    height, width = shape[:2]
    longer = max(height, width)
    return max(1, round(height * long_edge / longer)), max(1, round(width * long_edge / longer))
