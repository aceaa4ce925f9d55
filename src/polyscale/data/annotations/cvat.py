"""CVAT's XML for images, version 1.1: polygons, boxes and masks.

The file is read element by element, without document types and entities, so a small file cannot grow in memory.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from polyscale.data.annotations.reading import chosen_classes, folder_of_images
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, polygon_shape
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import check_name

__all__ = ["CvatData", "rows_of"]

_DEEPEST = 50
_REGIONS = ("polygon", "box", "mask", "polyline", "points", "ellipse", "cuboid", "skeleton")


class CvatData(ShapesData):
    """The images and regions of a CVAT XML file.

    A region with a higher ``z_order`` lies over others in the order of the file.

    Args:
        path: the XML file.
        images: folder of the images; by default the file's own, or ``images`` beside it.
        drawing: what of the regions is drawn, and how.

    Raises:
        UserError: the file is damaged, does not declare the class of a region, or names an image that does not exist.
    """

    order = "file"

    def __init__(self, path: Path, images: Path | None = None, drawing: Drawing = Drawing()) -> None:
        self._path = path
        parsed = _Parsed(path)
        if not parsed.images:
            raise UserError(f"{path} has no image elements; export it as CVAT for images 1.1")
        folder = folder_of_images(path, next(iter(parsed.images)), images)
        annotated, self._regions = [], []
        for name, (size, regions) in sorted(parsed.images.items()):
            try:
                image = folder / check_name(name)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
            if not image.is_file():
                raise DataError(f"{path} names {name}, which is not in {folder}; give it with --images", "missing")
            annotated.append(Annotated(Path(name).with_suffix("").as_posix(), image, size))
            self._regions.append(sorted(regions, key=lambda region: _layer(region[1])))
        used = {region[1].get("label", "").strip() for regions in self._regions for region in regions} - {""}
        titles = chosen_classes(drawing.classes, parsed.labels or sorted(used), str(path), used)
        super().__init__(annotated, titles, drawing, str(path), parsed.colors)

    def shapes(self, index: int) -> list[Shape]:
        """The regions of one image."""
        name, _, size = self.images[index]
        assert size is not None
        return [
            _shape(kind, values, size, f"{self._path}, region {number} of {name}")
            for number, (kind, values) in enumerate(self._regions[index], start=1)
        ]


class _Parsed:
    """Contents of the file: images with their size and regions, and the declared labels with their colours."""

    def __init__(self, path: Path) -> None:
        self.images: dict[str, tuple[tuple[int, int], list[tuple[str, dict[str, str]]]]] = {}
        self.labels: list[str] = []
        self.colors: dict[str, tuple[int, int, int]] = {}
        self._path = path
        self._regions: list[tuple[str, dict[str, str]]] = []
        self._inside: list[str] = []
        self._text = ""
        self._label = ""
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        try:
            with path.open("rb") as file:
                parser.ParseFile(file)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}; name a file that you may read") from None
        except UserError:
            raise
        except (expat.ExpatError, LookupError, ValueError) as error:  # the latter of unknown encodings
            raise UserError(f"{path} is no complete XML file ({error}); export it again") from None

    def _refuse(self, *_: Any) -> None:
        raise UserError(f"{self._path} declares document types or entities, which annotations have no use for")

    def _start(self, name: str, values: dict[str, str]) -> None:
        self._inside.append(name)
        if len(self._inside) > _DEEPEST:
            raise UserError(f"{self._path} nests elements too deeply for annotations; export it again")
        self._text = ""
        if name == "image":
            try:
                size = int(values["height"]), int(values["width"])
                self._regions = []
                self.images[values["name"]] = (size, self._regions)
            except (KeyError, ValueError):
                raise UserError(f"{self._path}: an image needs name, width and height; export it again") from None
        elif "image" in self._inside[:-1] and name in _REGIONS:
            self._regions.append((name, values))

    def _end(self, name: str) -> None:
        self._inside.pop()
        if self._inside[-1:] == ["label"]:
            text = self._text.strip()
            if name == "name":
                if not text:
                    raise UserError(f"{self._path} declares a label without a name; name it")
                self._label = text
                self.labels.append(text)
            elif name == "color" and self._label and re.fullmatch("#[0-9a-fA-F]{6}", text):
                self.colors[self._label] = (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))

    def _characters(self, text: str) -> None:
        self._text += text


def _shape(kind: str, values: dict[str, str], size: tuple[int, int], where: str) -> Shape:
    title = values.get("label", "").strip()
    if not title:
        raise DataError(f"{where} has no label; name it")
    try:
        if kind == "polygon":
            points = [tuple(float(v) for v in pair.split(",")) for pair in values["points"].split(";") if pair.strip()]
            return polygon_shape(title, [points], size, where)
        if kind == "box":
            x0, y0, x1, y1 = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            return polygon_shape(title, [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], size, where)
        if kind == "mask":
            left, top, width, height = (int(values[key]) for key in ("left", "top", "width", "height"))
            counts = [int(count) for count in values["rle"].split(",")]
            if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
                raise DataError(f"{where}: its mask leaves the image; export it again")
            if sum(counts) != width * height:
                raise DataError(f"{where}: its run lengths are not those of its box; export it again")
            pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
            return Shape(title, pixels, top, left)
    except (KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise DataError(f"{where}: its numbers are damaged; export it again") from None
    raise DataError(f"{where} is a {kind}, which has no inside that counts; draw a polygon or remove it")


def _layer(values: dict[str, str]) -> int:
    text = values.get("z_order", "0")
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else 0


def rows_of(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[int]:
    """Run lengths of a mask row by row, beginning with pixels outside."""
    flat = mask.ravel()
    bounds = [0, *(np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist(), len(flat)]
    if flat[0]:
        yield 0
    yield from np.diff(bounds).tolist()
