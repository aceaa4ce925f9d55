"""Supervisely's projects: ``meta.json`` with the classes, and a JSON file an image with bitmaps and polygons.

A bitmap is a PNG, compressed again by zlib and written as base64 text; what it becomes is bounded by the image's size.
A corner of a polygon is the middle of a pixel, and that pixel belongs to the polygon.

Source: the documentation of Supervisely's annotation format.
"""

import base64
import binascii
import io
import json
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.annotations.reading import chosen_classes, read_json, title_of
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, corners_of, polygon_shape
from polyscale.data.items import DataError
from polyscale.data.png import encode_index_png
from polyscale.data.polygons import fill
from polyscale.errors import UserError
from polyscale.files import check_name, inside, walk_files, write_atomically
from polyscale.labels import LabelSpace

__all__ = ["SuperviselyData", "write_supervisely"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_ONLY = "ds0"
"""The dataset of a project whose images are in no folder; it is no part of their names."""
_NUDGE = 1e-6
"""Pixels by which a polygon is moved to and fro, so that pixels whose middles lie on its edge are inside."""
_HEADERS = 1 << 16
"""Bytes that a PNG may have besides its pixels."""
_META = "meta.json"


class SuperviselyData(ShapesData):
    """The images of a project, or of one dataset of it.

    Args:
        root: the folder with ``meta.json`` (or the one below it), and ``img`` and ``ann`` at any depth.
        drawing: what of the regions is drawn, and how.

    Raises:
        UserError: a file is missing or damaged, or a class has no name.
    """

    order = "file"

    def __init__(self, root: Path, drawing: Drawing = Drawing()) -> None:
        meta = next((folder / _META for folder in (root, root.parent) if (folder / _META).is_file()), None)
        if meta is None:
            raise UserError(f"{root} has no {_META} with the project's classes; export the project from Supervisely")
        colors = _classes(meta)
        found: dict[str, tuple[Annotated, Path]] = {}
        for name in walk_files(root, (".json",)):
            folder, _, file = name.rpartition("/")
            if folder == "ann" or folder.endswith("/ann"):
                image = root / folder.removesuffix("ann") / "img" / check_name(file.removesuffix(".json"))
                dataset = folder.removesuffix("ann").removeprefix(f"{_ONLY}/")
                stem = f"{dataset}{Path(image.name).stem}"
                if stem in found:
                    raise UserError(f"{root} has two images named {stem}; rename one")
                found[stem] = (Annotated(stem, image, _size(root / name)), root / name)
        missing = [image for (_, image, _), _ in found.values() if not image.is_file()]
        if missing:
            raise DataError(
                f"{root} has annotations of {missing[0]}, which is missing; export it with images", "missing"
            )
        if not found:
            raise UserError(f"{root} holds no annotations (ann/IMAGE.json); name the folder of a project")
        self._files = [found[name][1] for name in sorted(found)]
        annotated = [found[name][0] for name in sorted(found)]
        self._known = tuple(colors)
        super().__init__(
            annotated, chosen_classes(drawing.classes, list(colors), str(meta)), drawing, str(root), colors
        )

    def shapes(self, index: int) -> list[Shape]:
        """The objects of one image."""
        path, size = self._files[index], self.images[index].size
        assert size is not None
        objects = read_json(path).get("objects")
        if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
            raise DataError(f"{path} has no list of objects; export it again")
        return [self._shape(each, size, f"{path}, object {number}") for number, each in enumerate(objects, start=1)]

    def _shape(self, values: dict[str, Any], size: tuple[int, int], where: str) -> Shape:
        title = title_of(values.get("classTitle"), f"{where} has no classTitle; give it a class")
        if title not in self._known:
            listed = ", ".join(list(self._known)[:10])
            raise DataError(
                f"{where} is of class {title!r}, which {_META} does not list ({listed}); add it there", "ids"
            )
        kind = values.get("geometryType")
        if kind == "bitmap":
            return _bitmap(title, values.get("bitmap"), size, where)
        if kind not in ("polygon", "rectangle"):
            raise DataError(f"{where} is a {kind}, which has no inside; draw a polygon or a mask, or remove it")
        points = values.get("points")
        rings = (points.get("exterior"), points.get("interior") or ()) if isinstance(points, dict) else (None, ())
        if kind == "rectangle":
            return _rectangle(title, rings[0], size, where)
        if not isinstance(rings[0], list) or not isinstance(rings[1], list | tuple):
            raise DataError(f"{where}: a polygon has points.exterior and points.interior; export it again")
        return _polygon(title, rings[0], rings[1], size, where)


def _classes(path: Path) -> dict[str, tuple[int, int, int]]:
    """Names and colours, in the order of the file."""
    content = read_json(path)
    listed = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path} lists no classes; export the project from Supervisely again")
    found: dict[str, tuple[int, int, int]] = {}
    for number, each in enumerate(listed, start=1):
        values = each if isinstance(each, dict) else {}
        title = title_of(values.get("title"), f"{path}: class {number} has no title; name it")
        if title in found:
            raise UserError(f"{path} has two classes named {title!r}; rename one")
        color = str(values.get("color", ""))
        digits = color[1:] if re.fullmatch("#[0-9a-fA-F]{6}", color) else "808080"
        found[title] = (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    return found


def _size(path: Path) -> tuple[int, int]:
    content = read_json(path)
    try:
        return int(content["size"]["height"]), int(content["size"]["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path} needs size.height and size.width; export it again") from None


def _bitmap(title: str, values: Any, size: tuple[int, int], where: str) -> Shape:
    try:
        left, top = (int(value) for value in values["origin"])
        packed = base64.b64decode(values["data"], validate=True)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: a bitmap has base64 data and an origin of two numbers; export it again") from None
    pixels = _unpacked(packed, size, where)
    height, width = pixels.shape
    if min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
        raise DataError(f"{where}: its bitmap of {width} x {height} pixels leaves the image; export it again", "size")
    return Shape(title, pixels, top, left)


def _unpacked(packed: bytes, size: tuple[int, int], where: str) -> Mask:
    """The pixels of a bitmap; not more is unpacked than an image of that size can need."""
    limit = _HEADERS + 4 * (size[0] * size[1] + size[0])
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, limit)
        if unpacker.unconsumed_tail:
            raise DataError(f"{where}: its bitmap unpacks to more than its image of {size[1]} x {size[0]} can need")
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.height > size[0] or image.width > size[1]:
                raise DataError(f"{where}: its bitmap is larger than its image; export it again", "size")
            clear = "A" in image.mode or "transparency" in image.info
            found = image.convert("RGBA").getchannel("A") if clear else image.convert("L")
            return np.asarray(found) > 0
    except UserError:
        raise
    except Exception as error:  # as in open_image: what decoders raise on damaged data has no common type
        raise DataError(f"{where}: its bitmap is damaged ({type(error).__name__}); export it again") from None


def _rectangle(title: str, corners: Any, size: tuple[int, int], where: str) -> Shape:
    try:
        (x0, y0), (x1, y1) = np.array(corners, dtype=np.float64).tolist()
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{where}: a rectangle is two points; correct or remove it") from None
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    return polygon_shape(title, [[(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1)]], size, where)


def _polygon(title: str, outer: Any, holes: Sequence[Any], size: tuple[int, int], where: str) -> Shape:
    """Pixels whose middles lie in the outline or on it, and in no hole, whose own edge belongs to the region."""
    outline, *inner = (corners_of(ring, where) + 0.5 for ring in (outer, *holes))
    left, top = np.clip(np.floor(outline.min(axis=0)), 0, size[::-1]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(outline.max(axis=0)), 0, size[::-1]).astype(int).tolist()

    def moved(ring: Any) -> Iterator[Mask]:
        for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            yield fill([ring - (left + x * _NUDGE, top + y * _NUDGE)], bottom - top, right - left)

    pixels = np.logical_or.reduce(list(moved(outline)))
    for ring in inner:
        pixels &= ~np.logical_and.reduce(list(moved(ring)))
    return Shape(title, pixels, top, left)


def write_supervisely(
    found: Iterator[tuple[str, tuple[int, int], list[tuple[int, Any]]]],
    images: Sequence[Path],
    space: LabelSpace,
    out: Path,
) -> Path:
    """Write a project; each region is a bitmap, which keeps holes and every pixel.

    Args:
        found: of each image its name with suffix, its size (H, W), and its regions as train id and polygon.
        images: their files, which are copied.
        space: the classes.
        out: the project's folder.
    """
    colors = ["#" + "".join(f"{channel:02x}" for channel in item.color) for item in space.classes]
    classes = [
        {"title": name, "shape": "bitmap", "color": color} for name, color in zip(space.names, colors, strict=True)
    ]
    with write_atomically(out / _META) as temporary:
        temporary.write_text(json.dumps({"classes": classes, "tags": []}, indent=1), encoding="utf-8")
    for (name, size, regions), image in zip(found, images, strict=True):
        folder, _, file = name.rpartition("/")
        dataset = folder or _ONLY
        objects = [_object(space.names[train_id], ring, size) for train_id, ring in regions]
        content = {"description": "", "tags": [], "size": {"height": size[0], "width": size[1]}, "objects": objects}
        with write_atomically(inside(out, f"{dataset}/ann/{file}.json")) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
        with write_atomically(inside(out, f"{dataset}/img/{file}")) as temporary:
            shutil.copyfile(image, temporary)
    return out


def _object(title: str, ring: Any, size: tuple[int, int]) -> dict[str, Any]:
    shape = polygon_shape(title, [ring], size, title)
    content = encode_index_png(shape.pixels.astype(np.uint8), np.array([(0, 0, 0), (255, 255, 255)], dtype=np.uint8))
    packed = binascii.b2a_base64(zlib.compress(content), newline=False).decode()
    return {
        "classTitle": title,
        "geometryType": "bitmap",
        "bitmap": {"data": packed, "origin": [shape.left, shape.top]},
        "tags": [],
    }
