"""LabelMe: a JSON file an image, beside it."""

from pathlib import Path
from typing import Any

import numpy as np

from polyscale.data.annotations.reading import classes_among, read_json, title_of
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, polygon_shape
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import check_name, walk_files

__all__ = ["LabelMeData"]

_CIRCLE = 64
"""Number of corners of the polygon that approximates a circle."""


class LabelMeData(ShapesData):
    """A folder of LabelMe's JSON files, each beside its image.

    Polygons, rectangles and circles are read; lines and points have no inside and are refused.

    Args:
        root: the folder, searched to any depth.
        drawing: what of the regions is drawn, and how.

    Raises:
        UserError: there is no such file, one is damaged, or an image does not exist.
    """

    def __init__(self, root: Path, drawing: Drawing = Drawing()) -> None:
        images: list[Annotated] = []
        titles: set[str] = set()
        self._files: list[Path] = []
        for name in walk_files(root, (".json",)):
            content = _read(root / name)
            if content is None:
                continue
            titles |= {_title(shape, root / name) for shape in content["shapes"]}
            images.append(_annotated(root, name, content))
            self._files.append(root / name)
        if not images:
            raise UserError(f"there are no JSON files of LabelMe in {root}; each has shapes and imagePath")
        order_of = sorted(range(len(images)), key=lambda index: images[index].name)
        self._files = [self._files[index] for index in order_of]
        images = [images[index] for index in order_of]
        super().__init__(images, classes_among(titles, drawing.classes, str(root)), drawing, str(root))

    def shapes(self, index: int) -> list[Shape]:
        """The shapes of the image's file."""
        path, size = self._files[index], self.images[index].size
        content = _read(path)
        assert content is not None
        assert size is not None
        return [
            _shape(shape, size, f"{path}, shape {number}") for number, shape in enumerate(content["shapes"], start=1)
        ]


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a LabelMe file; None where it is another JSON file."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list) or "imagePath" not in content:
        return None
    return content


def _annotated(root: Path, name: str, content: dict[str, Any]) -> Annotated:
    path = root / name
    given = str(content["imagePath"]).replace("\\", "/")  # written on Windows, perhaps
    try:
        image = path.parent / check_name(Path(given).name)
        size = int(content["imageHeight"]), int(content["imageWidth"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: it needs imagePath, imageHeight and imageWidth ({error}); export it again") from None
    if not image.is_file():
        raise DataError(f"{path} is about {image.name}, which is not beside it; put the image there", "missing")
    return Annotated(Path(name).with_suffix("").as_posix(), image, size)


def _title(shape: Any, path: Path) -> str:
    title = shape.get("label") if isinstance(shape, dict) else None
    return title_of(title, f"{path} has a shape without a label; name it")


def _shape(shape: dict[str, Any], size: tuple[int, int], where: str) -> Shape:
    title, kind, points = shape["label"].strip(), shape.get("shape_type") or "polygon", shape.get("points")
    if kind == "polygon":
        return polygon_shape(title, [points], size, where)
    if kind not in ("rectangle", "circle"):
        raise DataError(f"{where} is a {kind}, which has no inside; draw a polygon or remove it")
    try:
        (x0, y0), (x1, y1) = np.array(points or (), dtype=np.float64).tolist()
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{where}: a {kind} is two points; correct or remove it") from None
    if kind == "rectangle":
        return polygon_shape(title, [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], size, where)
    angles = np.linspace(0, 2 * np.pi, _CIRCLE, endpoint=False)
    radius = float(np.hypot(x1 - x0, y1 - y0))
    ring = np.stack([x0 + radius * np.cos(angles), y0 + radius * np.sin(angles)], axis=1)
    return polygon_shape(title, [ring], size, where)
