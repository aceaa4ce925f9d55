"""Labels in the forms that annotation tools read, for a person to correct.

Each connected region of a class becomes one polygon along the borders of its pixels, so that reading it back gives the
same pixels. A hole is reached by a line of no width, as the polygons of these forms know no holes. Supervisely gets a
bitmap of each region, and FiftyOne the masks.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from polyscale.config import dump_yaml
from polyscale.data.annotations.fiftyone import write_fiftyone
from polyscale.data.annotations.supervisely import write_supervisely
from polyscale.data.annotations.yolo import yolo_lines
from polyscale.data.items import DataError, Item, SegmentationData
from polyscale.data.parallel import Progress, in_parallel, pixels_of
from polyscale.data.polygons import Ring, area, bridge, simplify, trace
from polyscale.errors import UserError
from polyscale.files import check_folder, inside, write_atomically
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["TOOLS", "Tool", "coco_categories", "coco_polygon", "export_labels", "polygons_of"]

Tool = Literal["coco", "yolo", "cvat", "label-studio", "supervisely", "fiftyone"]
TOOLS: tuple[Tool, ...] = ("coco", "yolo", "cvat", "label-studio", "supervisely", "fiftyone")


class _Labelled(NamedTuple):
    name: str
    """Of the image file, with its suffix."""
    size: tuple[int, int]
    regions: list[tuple[int, Ring]]
    """Train id and polygon."""


def export_labels(
    data: SegmentationData,
    out: Path,
    tool: Tool,
    *,
    tolerance: float = 0.0,
    smallest: int = 1,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the labels of a data set as regions; ignored pixels are in none.

    Args:
        data: images with labels.
        out: a new or empty folder. YOLO, Supervisely and FiftyOne need the images in it, which are copied.
        tool: whose form.
        tolerance: corners that lie within so many pixels of a line are left out; 0 keeps every pixel.
        smallest: regions of fewer pixels are left out.
        workers: number of threads.
        progress: called with (images done, images in all).

    Returns:
        The file or folder to import.

    Raises:
        UserError: an image has no labels, a file cannot be read or written, the tolerance is no number from 0.
    """
    if not 0 <= tolerance < math.inf:
        raise UserError(f"the tolerance must be a number of pixels from 0, got {tolerance:g}; for example 1")
    check_folder(out)
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise UserError(f"{out} is not empty; choose a new folder")

    if tool == "fiftyone":
        if tolerance or smallest > 1:
            raise UserError("FiftyOne takes the masks as they are; leave --tolerance and --smallest out")
        return write_fiftyone(data, out, workers, progress)

    def polygons(index: int) -> _Labelled:
        return _polygons(data, index, tolerance, smallest)

    found = in_parallel(range(len(data)), polygons, workers, progress, lambda index: pixels_of(data.items[index].mask))
    match tool:
        case "coco":
            return _coco(found, data.label_space, out)
        case "cvat":
            return _cvat(found, data.label_space, out)
        case "label-studio":
            return _label_studio(found, data.label_space, out)
        case "yolo":
            return _yolo(found, data, out)
        case "supervisely":
            return write_supervisely(found, [_image_file(item) for item in data.items], data.label_space, out)


def _polygons(data: SegmentationData, index: int, tolerance: float, smallest: int) -> _Labelled:
    item = data.items[index]
    labels = data.read_labels(index)
    if labels is None:
        raise DataError(f"{item.image} has no labels to export; leave it out", "missing")
    regions = polygons_of(labels, tolerance, smallest)
    return _Labelled(f"{item.name}{item.image.suffix}", (labels.shape[0], labels.shape[1]), regions)


def polygons_of(labels: np.ndarray[Any, Any], tolerance: float = 0.0, smallest: int = 1) -> list[tuple[int, Ring]]:
    """Train id and polygon of each connected region; see ``export_labels`` for the arguments.

    Args:
        labels: (H, W) train ids.
        tolerance: in pixels.
        smallest: in pixels.
    """
    return [
        (train_id, bridge([simplify(ring, tolerance) for ring in rings]))
        for train_id in np.unique(labels[labels != IGNORE]).tolist()
        for rings in trace(labels == train_id)
        if sum(area(ring) for ring in rings) >= smallest
    ]


def coco_polygon(train_id: int, ring: Ring, image_id: int, number: int) -> dict[str, Any]:
    """One polygon as COCO writes it; categories count from 1."""
    (left, top), (right, bottom) = ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
    return {
        "id": number,
        "image_id": image_id,
        "category_id": train_id + 1,
        "segmentation": [_numbers(ring)],
        "bbox": [left, top, right - left, bottom - top],
        "area": area(ring),
        "iscrowd": 0,
    }


def coco_categories(space: LabelSpace) -> list[dict[str, Any]]:
    """The classes as COCO lists them."""
    return [{"id": k + 1, "name": name, "supercategory": ""} for k, name in enumerate(space.names)]


def _coco(found: Iterator[_Labelled], space: LabelSpace, out: Path) -> Path:
    """One JSON file; annotations are written as they come."""
    path = out / "instances.json"
    images: list[dict[str, Any]] = []
    number = 0
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image_id, (name, (height, width), regions) in enumerate(found, start=1):
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
            for train_id, ring in regions:
                annotation = coco_polygon(train_id, ring, image_id, number + 1)
                file.write(("," if number else "") + json.dumps(annotation))
                number += 1
        file.write(f'], "images": {json.dumps(images)}, "categories": {json.dumps(coco_categories(space))}}}')
    return path


def _cvat(found: Iterator[_Labelled], space: LabelSpace, out: Path) -> Path:
    path = out / "annotations.xml"
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write("<meta><task><labels>\n")
        for item in space.classes:
            color = "".join(f"{channel:02x}" for channel in item.color)
            name = quoteattr(item.name)[1:-1]
            file.write(f"<label><name>{name}</name><color>#{color}</color><attributes></attributes></label>\n")
        file.write("</labels></task></meta>\n")
        for number, (name, (height, width), regions) in enumerate(found):
            file.write(f'<image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">\n')
            for train_id, ring in regions:
                points = ";".join(f"{x:g},{y:g}" for x, y in ring.tolist())
                label = quoteattr(space.names[train_id])
                file.write(f'<polygon label={label} source="auto" occluded="0" points="{points}" z_order="0"/>\n')
            file.write("</image>\n")
        file.write("</annotations>\n")
    return path


def _label_studio(found: Iterator[_Labelled], space: LabelSpace, out: Path) -> Path:
    """Tasks with predictions, which Label Studio shows to be corrected, and the labelling interface."""
    path = out / "tasks.json"
    colors = ["#" + "".join(f"{channel:02x}" for channel in item.color) for item in space.classes]
    labels = "\n".join(
        f"    <Label value={quoteattr(item.name)} background={quoteattr(color)}/>"
        for item, color in zip(space.classes, colors, strict=True)
    )
    interface = (
        '<View>\n  <Image name="image" value="$image"/>\n  <PolygonLabels name="label" toName="image">\n'
        f"{labels}\n  </PolygonLabels>\n</View>\n"
    )
    with write_atomically(out / "interface.xml") as temporary:
        temporary.write_text(interface, encoding="utf-8")
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, (name, size, regions) in enumerate(found):
            result = [_result(k, space.names[train_id], ring, size) for k, (train_id, ring) in enumerate(regions)]
            task = {
                "id": number + 1,
                "data": {"image": f"/data/local-files/?d={name}"},
                "predictions": [{"model_version": "polyscale", "result": result}],
            }
            file.write((",\n" if number else "") + json.dumps(task))
        file.write("]\n")
    return path


def _result(number: int, title: str, ring: Ring, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    return {
        "id": f"region{number}",
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"points": (ring * 100 / (width, height)).tolist(), "polygonlabels": [title], "closed": True},
    }


def _yolo(found: Iterator[_Labelled], data: SegmentationData, out: Path) -> Path:
    names = dict(enumerate(data.label_space.names))
    for item, (name, size, regions) in zip(data.items, found, strict=True):
        text = "\n".join(yolo_lines(regions, size)) + "\n"
        with write_atomically(inside(out / "labels", f"{item.name}.txt")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        with write_atomically(inside(out / "images", name)) as temporary:
            shutil.copyfile(_image_file(item), temporary)
    described = {"path": ".", "train": "images", "val": "images", "names": names}
    with write_atomically(out / "data.yaml") as temporary:
        temporary.write_text(dump_yaml(described), encoding="utf-8")
    return out


def _image_file(item: Item) -> Path:
    if not item.image.is_file():
        raise DataError(f"{item.image} does not exist, and this form needs the images; give them with --images")
    return item.image


def _numbers(ring: Ring) -> list[float]:
    return [int(value) if value == int(value) else value for value in ring.ravel().tolist()]
