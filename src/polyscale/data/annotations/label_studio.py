"""Label Studio's JSON of tasks: polygons in percent of the image's sides."""

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from polyscale.data.annotations.reading import classes_among, read_json
from polyscale.data.annotations.shapes import Annotated, Drawing, Shape, ShapesData, polygon_shape
from polyscale.data.images import image_size
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.files import check_name

__all__ = ["LabelStudioData"]


class LabelStudioData(ShapesData):
    """The tasks of a JSON export; the last annotation of each counts, or else its last prediction.

    Args:
        path: the JSON file.
        images: folder of the images; by default the file's own, or ``images`` beside it.
        drawing: what of the regions is drawn, and how.

    Raises:
        UserError: the file is damaged, two of its tasks are of one image, or an image does not exist.
    """

    def __init__(self, path: Path, images: Path | None = None, drawing: Drawing = Drawing()) -> None:
        self._path = path
        tasks = _tasks(path)
        found: dict[str, tuple[Annotated, list[Any]]] = {}
        for number, task in enumerate(tasks, start=1):
            name = _file_name(task, f"{path}, task {number}")
            image = _image(path, images, name)
            stem = Path(name).with_suffix("").as_posix()
            if stem in found:
                raise UserError(f"{path} has two tasks of {name}; remove one")
            found[stem] = (Annotated(stem, image, None), _regions(task))
        annotated = [found[name][0] for name in sorted(found)]
        self._regions = [found[name][1] for name in sorted(found)]
        titles = {_title(region, str(path)) for regions in self._regions for region in regions}
        super().__init__(annotated, classes_among(titles, drawing.classes, str(path)), drawing, str(path))

    def shapes(self, index: int) -> list[Shape]:
        """The polygons of one task."""
        size = image_size(self.images[index].image)
        shapes = []
        for number, region in enumerate(self._regions[index], start=1):
            where = f"{self._path}, region {number} of {self.images[index].name}"
            try:
                corners = np.array(region["value"]["points"], dtype=np.float64).reshape(-1, 2)
            except (KeyError, TypeError, ValueError, OverflowError):
                kind = region.get("type")
                raise DataError(f"{where} is of type {kind}, and no polygon; draw one or remove it") from None
            shapes.append(polygon_shape(_title(region, where), [corners * size[::-1] / 100], size, where))
        return shapes


def _tasks(path: Path) -> list[Any]:
    tasks = read_json(path)
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{path} is no list of tasks; export it from Label Studio as JSON")
    return tasks


def _file_name(task: dict[str, Any], where: str) -> str:
    """The image's name: of a path, a URL, or the local files that Label Studio serves (``?d=folder/a.png``)."""
    data = task.get("data")
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    if not values:
        raise UserError(f"{where} names no image (data.image)")
    try:
        parts = urlsplit(values[0])
        query = parse_qs(parts.query)
        return check_name(unquote(query["d"][0] if "d" in query else parts.path).lstrip("/"))
    except ValueError as error:  # also of an address that is none
        raise UserError(f"{where}: {error}") from None


def _image(path: Path, images: Path | None, name: str) -> Path:
    """The image by as much of its path as leads to a file."""
    folders = [images] if images is not None else [path.parent, path.parent / "images"]
    parts = PurePosixPath(name).parts
    for folder in folders:
        for start in range(len(parts)):
            if (folder / Path(*parts[start:])).is_file():
                return folder / Path(*parts[start:])
    raise DataError(f"{path} names {name}, which is not in {folders[0]}; give its folder with --images", "missing")


def _regions(task: dict[str, Any]) -> list[Any]:
    for key in ("annotations", "predictions"):
        found = task.get(key)
        if isinstance(found, list) and found and isinstance(found[-1], dict):
            result = found[-1].get("result")
            return [region for region in result if isinstance(region, dict)] if isinstance(result, list) else []
    return []


def _title(region: dict[str, Any], where: str) -> str:
    value = region.get("value")
    labels = value.get("polygonlabels") if isinstance(value, dict) else None
    if not isinstance(labels, list) or not labels or not str(labels[0]).strip():
        raise DataError(f"{where}: a region of type {region.get('type')} has no polygon label; draw one or remove it")
    return str(labels[0]).strip()
