"""Regions with a class, drawn one over the other into labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from polyscale.data.images import image_size, read_image
from polyscale.data.items import DataError, Item, Sample, SegmentationData
from polyscale.data.polygons import fill
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

__all__ = ["Annotated", "Drawing", "Order", "Shape", "ShapesData", "corners_of", "polygon_shape", "shape_of"]

Array = np.ndarray[Any, Any]

_FARTHEST = 1e9
"""Pixels from the image at which a corner may lie."""

Order = Literal["small-on-top", "file"]
"""Which of two overlapping regions wins: the smaller one, or the later one in the file."""


class Drawing(NamedTuple):
    """What of the regions is drawn, and how.

    Attributes:
        classes: only these, in this order; by default those that the file declares, or else all there are.
        background: the class of pixels in no region; None ignores them.
        order: which region wins where two overlap; by default the smaller one, and the file's order in CVAT and
            Supervisely, whose regions are layers.
    """

    classes: Sequence[str] = ()
    background: str | None = "background"
    order: Order | None = None


class Shape(NamedTuple):
    """One region.

    Attributes:
        title: its class.
        pixels: (h, w) bool, the region within its box.
        top: row of the box in the image.
        left: column of the box.
    """

    title: str
    pixels: np.ndarray[Any, np.dtype[np.bool_]]
    top: int = 0
    left: int = 0


class Annotated(NamedTuple):
    """An image of an annotation file.

    Attributes:
        name: of the item.
        image: its file.
        size: (H, W) as the annotations have it; None where they do not say.
    """

    name: str
    image: Path
    size: tuple[int, int] | None


class ShapesData(SegmentationData):
    """Images whose labels are drawn from regions; a subclass lists the images and says which regions each has.

    Args:
        images: sorted by name.
        titles: the classes in their order.
        drawing: what becomes of the other pixels, and which region wins.
        where: what the data set is called in messages.
        colors: of some classes; the others get colours that differ.
    """

    order: Order = "small-on-top"
    """Where the user does not choose one."""

    def __init__(
        self,
        images: Sequence[Annotated],
        titles: Sequence[str],
        drawing: Drawing,
        where: str,
        colors: dict[str, tuple[int, int, int]] | None = None,
    ) -> None:
        if not images:
            raise UserError(f"{where} lists no images")
        self.label_space = _classes_of(titles, drawing.background, where, colors)
        self._ids = {title: number for number, title in enumerate(self.label_space.names)}
        self._background = IGNORE if drawing.background is None else self._ids[drawing.background]
        self.order = drawing.order or self.order
        self.where = where
        self.images = tuple(images)
        self.items = tuple(Item(each.name, each.image, each.image) for each in self.images)

    def shapes(self, index: int) -> list[Shape]:
        """The regions of one image, in the order of the file.

        Raises:
            UserError: a region is damaged or of an unknown class.
        """
        raise NotImplementedError

    def read(self, index: int) -> Sample:
        """Read an image and draw its labels."""
        image = read_image(self.items[index].image)
        return Sample(self.items[index].name, image, self._drawn(index, (image.shape[0], image.shape[1])))

    def read_labels(self, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Draw the labels alone; the image's size comes from its header."""
        return self._drawn(index, image_size(self.items[index].image))

    def _drawn(self, index: int, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        named = self.images[index]
        if named.size is not None and named.size != size:
            raise DataError(
                f"{named.image} is {size[1]} x {size[0]} pixels, but {self.where} says {named.size[1]} x "
                f"{named.size[0]}; annotate this very file, or correct the size",
                "size",
            )
        shapes = self.shapes(index)
        if self.order == "small-on-top":
            shapes.sort(key=lambda shape: -int(shape.pixels.sum()))  # equal ones stay in the order of the file
        labels = np.full(size, self._background, dtype=np.uint8)
        for shape in shapes:
            if shape.title in self._ids:
                _paint(labels, shape, self._ids[shape.title])
        return labels


def _classes_of(
    titles: Sequence[str],
    background: str | None,
    where: str,
    colors: dict[str, tuple[int, int, int]] | None = None,
) -> LabelSpace:
    """A label space of classes by name, the background first.

    Raises:
        UserError: there are too many, or none.
    """
    from polyscale.data.suggest import distinct_colors

    titles = [*([background] if background is not None and background not in titles else []), *titles]
    if not titles:
        raise UserError(f"{where} names no classes")
    if len(titles) > IGNORE:
        raise UserError(f"{where} has {len(titles)} classes, more than {IGNORE}; choose some of them with --classes")
    known = dict(colors or {})
    if background is not None:
        known.setdefault(background, (0, 0, 0))
    fresh = iter(distinct_colors(len(titles)))
    classes = tuple(LabelClass(name=title, color=known.get(title) or next(fresh)) for title in titles)
    return LabelSpace(name=Path(where).stem or "custom", classes=classes)


def polygon_shape(title: str, rings: Sequence[Any], size: tuple[int, int], where: str, union: bool = False) -> Shape:
    """A region inside polygons.

    Args:
        title: its class.
        rings: each (N, 2) corners x, y in pixels.
        size: (H, W) of the image.
        where: the polygon, for messages.
        union: a pixel in any of the rings counts; otherwise a ring within a ring is a hole.

    Raises:
        UserError: a ring has fewer than three corners, or a corner is no pair of numbers.
    """
    arrays = [corners_of(ring, where) for ring in rings]
    if not arrays:
        raise DataError(f"{where} has no outline; draw one or remove it")
    every = np.concatenate(arrays)
    left, top = np.clip(np.floor(every.min(axis=0)), 0, size[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(every.max(axis=0)), 0, size[::-1]).astype(int).tolist()
    moved = [ring - (left, top) for ring in arrays]
    groups = [[ring] for ring in moved] if union else [moved]
    pixels = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for group in groups:
        pixels |= fill(group, *pixels.shape)
    return Shape(title, pixels, top, left)


def corners_of(ring: Any, where: str) -> Array:
    """The corners of one polygon, (N, 2) x, y in pixels.

    Args:
        ring: as the file has it.
        where: the polygon, for messages.

    Raises:
        UserError: there are fewer than three, one is no pair of numbers, or lies far away.
    """
    try:
        corners = np.array(ring, dtype=np.float64).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{where}: a polygon is a list of pairs of numbers; correct or remove it") from None
    if len(corners) < 3 or not np.isfinite(corners).all():
        raise DataError(f"{where}: a polygon of {len(corners)} corners has no inside; correct or remove it")
    if np.abs(corners).max() > _FARTHEST:
        raise DataError(f"{where}: a corner lies {np.abs(corners).max():.0e} pixels away; correct or remove it")
    return corners


def shape_of(title: str, mask: Array) -> Shape:
    """A region given as a mask of the whole image, (H, W) bool."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Shape(title, np.zeros((0, 0), dtype=np.bool_))
    top, left = int(rows[0]), int(columns[0])
    return Shape(title, mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].astype(np.bool_), top, left)


def _paint(labels: np.ndarray[Any, np.dtype[np.uint8]], shape: Shape, train_id: int) -> None:
    height, width = shape.pixels.shape
    labels[shape.top : shape.top + height, shape.left : shape.left + width][shape.pixels] = train_id
