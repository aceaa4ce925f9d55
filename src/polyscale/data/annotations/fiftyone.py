"""FiftyOne's import layout of image segmentation: ``data/`` and ``labels/`` with masks of the same names.

In a mask 0 is shown as nothing, so classes count from 1 there and 0 is what is ignored.
"""

import json
import shutil
from pathlib import Path

from polyscale.config import dump_yaml
from polyscale.data.items import DataError, SegmentationData
from polyscale.data.masks import write_mask
from polyscale.data.parallel import Progress, in_parallel, pixels_of
from polyscale.errors import UserError
from polyscale.files import inside, write_atomically
from polyscale.labels import IGNORE, LabelClass, LabelSpace

__all__ = ["write_fiftyone"]


def write_fiftyone(
    data: SegmentationData, out: Path, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Write images, masks and the names of their values; the folder opens as a data set of our own too.

    Args:
        data: images with labels.
        out: the folder.
        workers: number of threads.
        progress: called with (images done, images in all).

    Raises:
        UserError: an image has no labels or there are too many classes for 8 bits.
    """
    names = data.label_space.names
    if len(names) >= IGNORE:
        raise UserError(f"a mask for FiftyOne holds up to {IGNORE - 1} classes, and the data has {len(names)}")
    classes = tuple(
        LabelClass(name=item.name, color=item.color, ids=(number,))
        for number, item in enumerate(data.label_space.classes, start=1)
    )
    space = LabelSpace(name=data.label_space.name, classes=classes, ignore_ids=(0,))

    def write(index: int) -> None:
        item, labels = data.items[index], data.read_labels(index)
        if labels is None or not item.image.is_file():
            raise DataError(f"{item.image} has no labels or no file to export; leave it out", "missing")
        write_mask(inside(out / "labels", f"{item.name}.png"), labels, space, palette=False)
        with write_atomically(inside(out / "data", f"{item.name}{item.image.suffix}")) as temporary:
            shutil.copyfile(item.image, temporary)

    for _ in in_parallel(range(len(data)), write, workers, progress, lambda index: pixels_of(data.items[index].mask)):
        pass
    layout = {"kind": "folder", "image": "data/{name}", "mask": "labels/{name}.png"}
    with write_atomically(out / "data.yaml") as temporary:
        temporary.write_text(dump_yaml(layout), encoding="utf-8")
    space.to_yaml(out / "label_space.yaml")
    with write_atomically(out / "mask_targets.json") as temporary:
        temporary.write_text(json.dumps(dict(enumerate(names, start=1)), indent=1), encoding="utf-8")
    return out
