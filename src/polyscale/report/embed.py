"""The images of a report as data: maps as grey pictures that the page colours, small pictures for those without script.

A page holds up to a number of images itself; more lie in files beside it, each a script that hands its data over, since
a page opened from disk may read no other file.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.data.png import encode_index_png
from polyscale.files import write_atomically
from polyscale.intervals import class_iou, mean_iou
from polyscale.labels import IGNORE, LabelSpace
from polyscale.pictures import error_map
from polyscale.report.arithmetic import marginals
from polyscale.report.stored import Stored
from polyscale.report.ways import FUSED

__all__ = [
    "MOST_BYTES",
    "MOST_EMBEDDED",
    "MOST_THUMBNAILS",
    "default_order",
    "film",
    "image_data",
    "size_of",
    "split_views",
    "strip",
]

Array = np.ndarray[Any, Any]
Part = dict[str, Any]

MOST_EMBEDDED = 12
"""Images in full in the page itself."""

MOST_THUMBNAILS = 100
"""Thumbnails in the page itself."""

BYTES = 300_000
"""Of the files of one image, before base64 adds a third: twelve then make less than 5 MB."""

MOST_BYTES = 4_500_000
"""Of the data of the images in a page; what the mixer needs of the other images lies beside it."""

VIEWS = ("logits-", "attention-", "best-")
"""Begin the names of the files that fusing anew needs."""

LEAST_PHOTO = 60_000

STRIP = 240
"""Width of the pictures for pages without script."""

MOST_PAIRS = 30

COARSE = 3
"""Weights and confidences are embedded in steps of 3 / 255: a percent, in a quarter fewer bytes."""


def film(stored: Stored) -> list[Part]:
    """Every image with its scores, in the order of the data set.

    A score is in percent, None where there is none; ``mistakes`` are [true class, predicted class, pixels], the largest
    first.
    """
    assert stored.about is not None
    about, counts = stored.about, stored.counts
    names, rows = about["classes"], about["rows"]
    found = marginals(counts, len(rows), len(names))
    means, own = mean_iou(found), rows.index(FUSED)
    iou = class_iou(found)[:, own]
    rival = None if stored.rival is None else rows.index(stored.rival)
    pixels = counts["image_pixels"].sum(1)
    items = []
    for k, entry in enumerate(about["images"]):
        items.append(
            {
                "name": entry["name"],
                "size": entry["size"],
                "score": _percent(means[k, own]),
                "gain": None if rival is None else _percent(means[k, own] - means[k, rival]),
                "iou": [_percent(value) for value in iou[k]],
                "confident": _percent(counts["confident_errors"][k] / max(1, pixels[k]), 2),
                "mistakes": _mistakes(counts, k, own, len(names)),
                "stored": entry["gallery"] is not None,
            }
        )
    return items


def _percent(value: float, digits: int = 1) -> float | None:
    return None if np.isnan(value) else round(100 * float(value), digits)


def _mistakes(counts: Mapping[str, Array], image: int, row: int, num_classes: int) -> list[list[int]]:
    start, end = counts["confusion_starts"][image : image + 2]
    size = num_classes * num_classes
    pairs = [
        [*divmod(int(entry) % size, num_classes), int(count)]
        for entry, count in zip(
            counts["confusion_entries"][start:end], counts["confusion_counts"][start:end], strict=True
        )
        if entry // size == row
    ]
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    return sorted(wrong, key=lambda pair: -pair[2])[:MOST_PAIRS]


def default_order(items: Sequence[Part]) -> list[int]:
    """Six worst, three largest gains and three largest losses against the rival, then the rest from the worst on."""
    by_score = sorted(range(len(items)), key=lambda k: (items[k]["score"] is None, items[k]["score"]))
    gains = sorted((k for k in range(len(items)) if items[k]["gain"] is not None), key=lambda k: -items[k]["gain"])
    first = [*by_score[:6], *(k for k in gains[:3] if items[k]["gain"] > 0)]
    first += [k for k in gains[:-4:-1] if items[k]["gain"] < 0]
    return list(dict.fromkeys([*first, *by_score]))


def image_data(stored: Stored, entry: Mapping[str, Any]) -> Part:
    """The files of one image of the gallery as base64.

    Args:
        stored: the evaluation.
        entry: of ``recording.json``.
    """
    pictures = stored.pictures(entry)
    photo_file = pictures.pop("photo")
    maps = {name: _packed(path) for name, path in pictures.items()}
    left = BYTES - sum(len(data) for name, data in maps.items() if not name.startswith(VIEWS))
    photo = _photo(photo_file, max(LEAST_PHOTO, left))
    files = {name: base64.b64encode(data).decode("ascii") for name, data in {"photo": photo, **maps}.items()}
    return {"size": entry["size"], "logits": entry["gallery"]["logits"], "files": files}


def split_views(data: Part) -> tuple[Part, Part]:
    """An image's data without what fusing anew needs, and that alone."""
    views = {name: text for name, text in data["files"].items() if name.startswith(VIEWS)}
    rest = {name: text for name, text in data["files"].items() if name not in views}
    return {**data, "files": rest}, {"files": views}


def size_of(data: Part) -> int:
    """Bytes that an image's files take in a page."""
    return sum(map(len, data["files"].values()))


def _packed(path: Path) -> bytes:
    """The values of a grey picture in few bytes: 4 bits a pixel where they suffice, 255 then being 15."""
    if path.stem.startswith(VIEWS):
        return path.read_bytes()
    values = np.asarray(Image.open(path))
    if path.stem.startswith(("weight-", "confidence-")):
        buffer = io.BytesIO()
        Image.fromarray((np.rint(values / COARSE) * COARSE).astype(np.uint8)).save(buffer, "PNG", compress_level=6)
        return buffer.getvalue()
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=IGNORE + 1))
    if ((found < 15) | (found == IGNORE)).all():
        grey = np.repeat(np.append(np.arange(15), IGNORE), 3).astype(np.uint8).reshape(16, 3)
        return encode_index_png(np.minimum(values, 15), grey)
    return encode_index_png(values, None)


def _photo(path: Path, most: int) -> bytes:
    """The photograph in at most about ``most`` bytes: as it is, or at lower quality, or smaller."""
    if path.stat().st_size <= most:
        return path.read_bytes()
    picture = Image.open(path).convert("RGB")
    for factor in (1, 0.75, 0.5, 0.35):
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        smaller = picture if factor == 1 else picture.resize(size, Image.Resampling.LANCZOS)
        for quality in (80, 65):
            buffer = io.BytesIO()
            smaller.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= most:
                return buffer.getvalue()
    return buffer.getvalue()


def strip(stored: Stored, entry: Mapping[str, Any], space: LabelSpace) -> list[tuple[str, str]]:
    """Small pictures of one image for pages without script: caption and ``data:`` address."""
    pictures = stored.pictures(entry)
    photo = Image.open(pictures["photo"]).convert("RGB")
    size = (STRIP, max(1, round(STRIP * photo.height / photo.width)))
    small = np.asarray(photo.resize(size, Image.Resampling.LANCZOS))
    maps = {
        name: np.asarray(Image.open(pictures[name]).resize(size, Image.Resampling.NEAREST))
        for name in ("truth", "fused")
    }
    shown = [
        ("Photograph", Image.fromarray(small)),
        ("Truth", Image.fromarray(space.colorize(maps["truth"]))),
        ("Fused", Image.fromarray(space.colorize(maps["fused"]))),
        ("Error", error_map(small, maps["fused"], maps["truth"])),
    ]
    return [(caption, _small_uri(picture)) for caption, picture in shown]


def _small_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    if picture.getcolors(128) is not None:
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.save(buffer, "JPEG", quality=70, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def thumbnail_uri(path: Path) -> str:
    """A thumbnail as a ``data:`` address."""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def write_beside(folder: Path, position: int, data: Part, kind: str = "image") -> str:
    """Write one image's data beside the page; returns the file's name."""
    name = f"{kind}-{position:06d}.js"
    with write_atomically(folder / name) as temporary:
        temporary.write_text(f"polyscaleImage({position}, {json.dumps(data)});\n", encoding="ascii")
    return name
