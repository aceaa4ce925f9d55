"""YOLO's polygon labels: a text file an image, a line a region: class, x, y, x, y, … as parts of width and height."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.config import read_yaml
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, polygon_shape
from polyscale.data.images import IMAGE_SUFFIXES, image_size
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import walk_files

__all__ = ["YoloData", "yolo_lines"]

_LARGEST = 1 << 26
"""Bytes of the labels of one image."""


class YoloData(ShapesData):
    """A folder with ``data.yaml`` (its ``names``), ``images/`` and ``labels/``.

    An image without a label file has no region. Names keep their folders: ``images/train/a.jpg`` is ``train/a``.

    Args:
        root: the folder.
        drawing: how the regions are drawn; its classes are not read, as ``names`` has all.

    Raises:
        UserError: a file or folder is missing, or ``names`` is.
    """

    def __init__(self, root: Path, drawing: Drawing = Drawing()) -> None:
        self._root = root
        self._titles = _names(root / "data.yaml")
        images = root / "images"
        if not images.is_dir() or not (root / "labels").is_dir():
            raise UserError(f"{root} needs the folders images and labels, each with the same names")
        found = [
            Annotated(Path(name).with_suffix("").as_posix(), images / name, None)
            for name in walk_files(images, IMAGE_SUFFIXES)
        ]
        super().__init__(sorted(found, key=lambda each: each.name), list(self._titles.values()), drawing, str(root))

    def shapes(self, index: int) -> list[Shape]:
        """The lines of the image's label file."""
        name, image, _ = self.images[index]
        path = self._root / "labels" / f"{name}.txt"
        if not path.is_file():
            return []
        if (size_of_file := path.stat().st_size) > _LARGEST:
            raise DataError(f"{path} has {size_of_file / 1e6:,.0f} MB, too much for one image; export it again")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            raise DataError(f"{path} is not a text file of labels; export it again") from None
        size = image_size(image)
        return [
            self._shape(line.split(), size, f"{path}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def _shape(self, fields: list[str], size: tuple[int, int], where: str) -> Shape:
        try:
            number, values = int(fields[0]), np.array(fields[1:], dtype=np.float64)
        except ValueError:
            raise DataError(f"{where}: a line is a class and coordinates, all numbers; correct it") from None
        if number not in self._titles:
            raise DataError(f"{where}: class {number} is not among the names of {self._root / 'data.yaml'}", "ids")
        if len(values) == 4:
            raise DataError(f"{where} is a box and no polygon; a box says nothing of pixels: export segments")
        if len(values) % 2:
            raise DataError(f"{where}: {len(values)} coordinates are no pairs of x and y; export it again")
        return polygon_shape(self._titles[number], [values.reshape(-1, 2) * size[::-1]], size, where)


def _names(path: Path) -> dict[int, str]:
    values = read_yaml(path)
    names: Any = values.get("names") if isinstance(values, dict) else None
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(key, int) for key in names):
        raise UserError(f"{path} has no names of classes; write for example names: [road, car]")
    empty = [number for number, name in names.items() if not str(name if name is not None else "").strip()]
    if empty:
        raise UserError(f"{path}: class {empty[0]} has no name; name it")
    return {number: str(names[number]).strip() for number in sorted(names)}


def yolo_lines(shapes: Sequence[tuple[int, Any]], size: tuple[int, int]) -> list[str]:
    """Lines of a label file.

    Args:
        shapes: number of the class and corners (N, 2) x, y in pixels.
        size: (H, W) of the image.
    """
    lines = []
    for number, ring in shapes:
        parts = np.asarray(ring, dtype=np.float64) / size[::-1]
        lines.append(f"{number} " + " ".join(f"{value:.9g}" for value in parts.ravel()))
    return lines
