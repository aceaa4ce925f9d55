"""COCO's instance JSON: polygons and run lengths, read piece by piece.

Annotations of one image may stand anywhere in the file, so they are sorted into a temporary database beside memory: a
file of gigabytes needs a little more disk and hardly any memory.
"""

import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyscale.data.annotations.reading import chosen_classes, folder_of_images, title_of
from polyscale.data.annotations.run_lengths import decode_run_lengths
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, polygon_shape, shape_of
from polyscale.data.annotations.streamed_json import stream_object
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import check_name

__all__ = ["CocoData"]

_ARRAYS = frozenset({"images", "annotations", "categories"})


class CocoData(ShapesData):
    """The images and instances of a COCO JSON file; classes are its categories in the order of their ids.

    Args:
        path: the JSON file.
        images: folder of the images; by default the file's own, or ``images`` beside it.
        drawing: what of the regions is drawn, and how.

    Raises:
        UserError: the file is damaged, a category has no name, an annotation's image or category is unknown, an image
            does not exist.
    """

    def __init__(self, path: Path, images: Path | None = None, drawing: Drawing = Drawing()) -> None:
        self._spool = _Spool()
        self._path = path
        listed: dict[int, tuple[str, tuple[int, int]]] = {}
        self._titles: dict[int, str] = {}
        with self._spool.filling():
            for key, value in stream_object(path, _ARRAYS):
                if key == "images":
                    number, name, size = _image_of(value, path)
                    listed[number] = (name, size)
                elif key == "categories":
                    number, title = _category_of(value, path)
                    self._titles[number] = title
                elif key == "annotations":
                    self._spool.add(*_annotation_of(value, path), value)
        if not listed:
            raise UserError(f"{path} lists no images; COCO's instance JSON has images, annotations and categories")
        self._check(listed)
        folder = folder_of_images(path, next(iter(listed.values()))[0], images)
        rows = sorted((Path(name).with_suffix("").as_posix(), number) for number, (name, _) in listed.items())
        self._numbers = [number for _, number in rows]
        annotated = [Annotated(name, folder / listed[number][0], listed[number][1]) for name, number in rows]
        missing = [each.image for each in annotated if not each.image.is_file()]
        if missing:
            raise DataError(
                f"{path} names {len(missing)} of {len(annotated)} images that are not in {folder}, such as "
                f"{missing[0].name}; give their folder with --images",
                "missing",
            )
        titles = [self._titles[number] for number in sorted(self._titles)]
        super().__init__(annotated, chosen_classes(drawing.classes, titles, str(path)), drawing, str(path))

    def shapes(self, index: int) -> list[Shape]:
        """The annotations of one image."""
        size = self.images[index].size
        assert size is not None
        found = self._spool.of(self._numbers[index])
        return [_shape(self._titles[value["category_id"]], value, size, self._path) for value in found]

    def _check(self, listed: dict[int, Any]) -> None:
        for number in self._spool.distinct("image"):
            if number not in listed:
                raise DataError(f"{self._path} has annotations of image {number}, which it does not list", "missing")
        for number in self._spool.distinct("category"):
            if number not in self._titles:
                raise DataError(
                    f"{self._path} has annotations of category {number}, which it does not list; its categories are "
                    f"{', '.join(f'{k} {v}' for k, v in sorted(self._titles.items())[:5])}",
                    "ids",
                )


class _Spool:
    """Annotations by image, in a temporary database."""

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="polyscale-coco-", suffix=".db")  # noqa: SIM115 - lives as we do
        self._lock = threading.Lock()
        self._database = sqlite3.connect(self._file.name, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE shapes (image INTEGER, category INTEGER, value TEXT)")

    def filling(self) -> sqlite3.Connection:
        """While annotations are added."""
        return self._database

    def add(self, image: int, category: int, value: Any) -> None:
        self._database.execute("INSERT INTO shapes VALUES (?, ?, ?)", (image, category, json.dumps(value)))

    def distinct(self, column: str) -> list[int]:
        if column == "image":
            self._database.execute("CREATE INDEX IF NOT EXISTS by_image ON shapes (image)")
        rows = self._database.execute(f"SELECT DISTINCT {column} FROM shapes ORDER BY {column}")  # noqa: S608 - ours
        return [number for (number,) in rows]

    def of(self, image: int) -> Iterator[Any]:
        with self._lock:
            query = "SELECT value FROM shapes WHERE image = ? ORDER BY rowid"
            rows = self._database.execute(query, (image,)).fetchall()
        return (json.loads(text) for (text,) in rows)


def _number(value: Any) -> int:
    """An identity, which the database can hold.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(number)
    return number


def _image_of(value: Any, path: Path) -> tuple[int, str, tuple[int, int]]:
    try:
        number, name = _number(value["id"]), check_name(value["file_name"])
        size = int(value["height"]), int(value["width"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from None
        raise UserError(
            f"{path}: an image needs id, file_name, height and width, got {_short(value)}; export it again"
        ) from None
    return number, name, size


def _category_of(value: Any, path: Path) -> tuple[int, str]:
    try:
        number, title = _number(value["id"]), value["name"]
    except (KeyError, TypeError, ValueError, OverflowError):
        number, title = 0, None
    message = f"{path}: a category needs id and name, got {_short(value)}; name it in the JSON file"
    return number, title_of(title, message)


def _annotation_of(value: Any, path: Path) -> tuple[int, int]:
    try:
        return _number(value["image_id"]), _number(value["category_id"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: an annotation needs image_id and category_id, got {_short(value)}") from None


def _shape(title: str, value: dict[str, Any], size: tuple[int, int], path: Path) -> Shape:
    where = f"{path}, annotation {value.get('id')}"
    outline = value.get("segmentation")
    if isinstance(outline, dict):
        if outline.get("size") != list(size):
            raise DataError(f"{where}: its mask is of size {outline.get('size')}, its image {list(size)}", "size")
        return shape_of(title, decode_run_lengths(outline.get("counts", ()), size, where))
    if not isinstance(outline, list) or not outline:
        raise DataError(f"{where} has a box but no outline (segmentation); a box says nothing of pixels: remove it")
    return polygon_shape(title, outline, size, where, union=True)


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) < 80 else text[:77] + "..."
