"""A page on a data set: shares, sizes, where classes live and beside which, rare ones with examples, problems."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale.files import write_atomically
from polyscale.labels import LabelSpace
from polyscale.pictures import heat_map, overlay
from polyscale.report.build import page_environment
from polyscale.report.palettes import distinct_colors

__all__ = ["DataExample", "DataSplit", "crop_around", "write_data_page"]

Array = np.ndarray[Any, Any]

LONGEST_WHERE = 96
"""Of the pictures of where a class lives, in pixels."""

MARGIN = 0.35
"""Around an example's object, as a share of its size."""


@dataclass(frozen=True)
class DataExample:
    """An image with much of a rare class."""

    position: int
    name: str
    image: Array
    """(H, W, 3) uint8 RGB."""
    labels: Array
    """(H, W) train ids."""


@dataclass(frozen=True)
class DataSplit:
    """What a check and a survey found of one split; see ``polyscale.data``."""

    name: str
    num_images: int
    shares: Array
    """(C,) share of the labelled pixels."""
    num_with: Array
    """(C,) images that have the class."""
    typical: Sequence[float | None]
    """Median share in those images."""
    together: Array
    """(C, C) images that have both."""
    where: Array
    """(C, rows, columns), 0 to 1."""
    sizes: Sequence[tuple[int, int, int]]
    """(height, width, images), the most frequent first."""
    problems: Sequence[Mapping[str, Any]]
    """kind, name, message, error."""
    examples: Sequence[DataExample] = ()


def write_data_page(out: str | Path, name: str, space: LabelSpace, splits: Sequence[DataSplit]) -> Path:
    """Write the page.

    Raises:
        UserError: the file cannot be written.
    """
    out = Path(out)
    colors = distinct_colors(tuple(item.color for item in space.classes))
    shown = space.model_copy(
        update={
            "classes": tuple(
                item.model_copy(update={"color": color}) for item, color in zip(space.classes, colors, strict=True)
            )
        }
    )
    text = page_environment().get_template("data.html.j2").render(
        name=name, colors=colors, names=space.names, splits=[_split(split, shown) for split in splits]
    )  # fmt: skip
    with write_atomically(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


def _split(split: DataSplit, space: LabelSpace) -> dict[str, Any]:
    largest = float(split.shares.max()) if len(split.shares) else 0
    classes = []
    for k, name in enumerate(space.names):
        typical = split.typical[k]
        classes.append(
            {
                "position": k,
                "name": name,
                "share": 100 * float(split.shares[k]),
                "bar": 100 * float(split.shares[k]) / (largest or 1),
                "images": int(split.num_with[k]),
                "typical": None if typical is None else 100 * typical,
                "where": _where(split.where[k], split.sizes[0][:2]) if split.num_with[k] else None,
            }
        )
    alone = np.maximum(np.diagonal(split.together), 1)
    return {
        "name": split.name,
        "num_images": split.num_images,
        "classes": classes,
        "together": (100 * split.together / alone[:, None]).tolist(),
        "sizes": [{"width": w, "height": h, "images": n} for h, w, n in split.sizes],
        "problems": list(split.problems),
        "examples": [
            {
                "position": one.position,
                "class": space.names[one.position],
                "name": one.name,
                "uri": _example(one, space),
            }
            for one in split.examples
        ],
    }


def _where(shares: Array, size: tuple[int, int]) -> str:
    """Where in the frame a class lives, in relation to its largest share there; of the shape of an image (H, W)."""
    top = float(shares.max()) or 1
    height, width = (max(1, round(LONGEST_WHERE * side / max(size))) for side in size)
    return _uri(heat_map(shares / top).resize((width, height), Image.Resampling.NEAREST))


def _example(one: DataExample, space: LabelSpace) -> str:
    rows, columns = crop_around(one.labels == one.position)
    picture = overlay(one.image[rows, columns], _only(one.labels[rows, columns], one.position), space, 0.45, lines=True)
    picture.thumbnail((320, 240))
    return _uri(picture)


def _only(labels: Array, position: int) -> Array:
    return np.where(labels == position, labels, 255).astype(np.uint8)


def crop_around(mask: Array) -> tuple[slice, slice]:
    """The rows and columns around where a mask (H, W) is true, with a margin, at least a quarter of the image."""
    found = []
    for axis, length in ((1, mask.shape[0]), (0, mask.shape[1])):
        inside = np.flatnonzero(mask.any(axis))
        low, high = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, length)
        extra = max(round(MARGIN * (high - low)), (length // 4 - (high - low)) // 2)
        found.append(slice(max(0, low - extra), min(length, high + extra)))
    return found[0], found[1]


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    kind = "png" if picture.mode == "P" else "jpeg"
    picture.save(buffer, kind.upper(), **({"optimize": True} if kind == "png" else {"quality": 78}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
