"""Masks: files of class ids, read and written.

A palette PNG gives its *indices*; its colours only tell whether two files mean the same by them (see ``palettes``). A
grey PNG of 2 or 4 bits gives the numbers in the file, where Pillow stretches them to 0..255. An RGB mask is refused
unless the data set says that its masks are colour-coded, and so are a JPEG, whose compression changes ids, and a GIF,
whose ids programs renumber. Masks are never rotated: programs that write them write pixels as they are seen.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from polyscale.data.images import bits_of, load, open_image, to_rgb
from polyscale.data.items import DataError
from polyscale.data.png import write_index_png
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["MASK_SUFFIXES", "IndexMask", "palette_of", "read_color_mask", "read_index_mask", "read_mask", "write_mask"]

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Suffixes (in lower case) of files that count as masks when a folder is listed; a JPEG is none, as it changes ids."""

_BLACK = (0, 0, 0)


class IndexMask(NamedTuple):
    """A mask as its file holds it."""

    ids: np.ndarray[Any, Any]
    """(H, W) uint8, uint16 or int32."""
    palette: np.ndarray[Any, np.dtype[np.uint8]] | None
    """(K, 3) RGB, the colour of each id below K; None where the file has no palette."""


def read_mask(path: str | Path) -> np.ndarray[Any, Any]:
    """The ids of a mask, (H, W) uint8, uint16 or int32; see ``read_index_mask``."""
    return read_index_mask(path).ids


def read_index_mask(path: str | Path) -> IndexMask:
    """Read a mask of class ids: an 8- or 16-bit grey, a palette or a 1-bit file.

    Raises:
        UserError: the file is unreadable, holds colours rather than ids, or is a JPEG or GIF.
    """
    with open_image(path) as image:
        _refuse_jpeg(path, image)
        if image.format == "GIF":
            raise DataError(
                f"{path} is a GIF, whose ids programs renumber as they write; export the mask as PNG", "ids"
            )
        load(image, path)
        if image.mode == "1":
            return IndexMask(np.asarray(image).astype(np.uint8), None)
        if image.mode == "P":
            return IndexMask(np.array(image), palette_of(image))
        if image.mode in ("L", "LA"):
            ids = np.array(image if image.mode == "L" else image.getchannel(0))
            bits = bits_of(path, image)
            return IndexMask(ids // np.uint8(255 // (2**bits - 1)) if bits in (2, 4) else ids, None)
        if image.mode == "I" or image.mode.startswith("I;16"):
            values = np.array(image)
            return IndexMask(values.astype(values.dtype.newbyteorder("="), copy=False), None)
        raise DataError(f"{path} {_what_to_do(image)}", "ids")


def palette_of(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """The palette of an opened image, (K, 3) uint8 RGB, or None; pixels are not decoded."""
    values = image.getpalette("RGB") if image.mode == "P" else None
    return None if not values else np.array(values, dtype=np.uint8).reshape(-1, 3)


def read_color_mask(
    path: str | Path, label_space: LabelSpace, ignore_colors: Sequence[tuple[int, int, int]] = ()
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read a colour-coded mask by the colours of a label space.

    Args:
        path: an RGB, RGBA or palette file; of a palette the colours count, not the indices.
        label_space: its classes' colours are the table; they must differ.
        ignore_colors: colours that mean *ignored*, besides black; a class that has such a colour keeps it.

    Returns:
        (H, W) uint8 train ids. A colour that is in neither list is ignored if the label space ignores what it does not
        know.

    Raises:
        UserError: the file is unreadable or a JPEG, two classes share a colour, or a colour is not known; the message
            names the colours and how many pixels have them.
    """
    known = _color_codes(label_space)
    with open_image(path) as image:
        _refuse_jpeg(path, image)
        load(image, path)
        pixels = to_rgb(image).astype(np.uint32)
    codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    table = {_code(color): IGNORE for color in (_BLACK, *ignore_colors)} | known
    keys = np.array(sorted(table), dtype=np.uint32)
    values = np.array([table[int(key)] for key in keys], dtype=np.uint8)
    position = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
    train_ids: np.ndarray[Any, np.dtype[np.uint8]] = values[position]
    unknown = keys[position] != codes
    if unknown.any():
        if not label_space.ignore_unknown:
            raise DataError(f"{path}: {_name_unknown(codes[unknown], label_space)}", "ids")
        train_ids[unknown] = IGNORE
    return train_ids


def write_mask(
    path: str | Path, train_ids: np.ndarray[Any, Any], label_space: LabelSpace, palette: bool = True
) -> None:
    """Write labels as a PNG of data set ids; ``read_mask`` and ``LabelSpace.encode`` give the same labels again.

    Args:
        path: where; appears whole or not at all.
        train_ids: (H, W), values 0 .. C-1 or ``IGNORE``.
        label_space: gives the ids and the colours.
        palette: show the classes' colours in image viewers. Ids above 255 need a 16-bit grey file, which has no
            palette.

    Raises:
        UserError: the file cannot be written, or the label space has no id that means *ignored* while some pixels are.
    """
    labels = np.asarray(train_ids).astype(np.uint8)
    ids = label_space.decode(labels)
    if palette and ids.dtype == np.uint8:
        # No longer than needed: it is a large part of a small file.
        colors = np.zeros((int(ids.max(initial=0)) + 1, 3), dtype=np.uint8)
        for item in label_space.classes:
            colors[[number for number in item.ids if number < len(colors)]] = item.color
        write_index_png(path, ids, colors)
        return
    with write_atomically(path) as temporary:
        Image.fromarray(np.ascontiguousarray(ids)).save(temporary, format="PNG", optimize=True)


def _refuse_jpeg(path: str | Path, image: Image.Image) -> None:
    if image.format in ("JPEG", "MPO"):
        raise DataError(f"{path} is a JPEG, whose compression changes class ids; export the mask again as PNG", "ids")


def _what_to_do(image: Image.Image) -> str:
    if image.mode in ("RGB", "RGBA"):
        first, second, third = (np.asarray(image.getchannel(channel)) for channel in range(3))
        if np.array_equal(first, second) and np.array_equal(first, third):
            return (
                f"is a mask of mode {image.mode} with three equal channels; "
                "save one channel of it as a grey PNG, so that each pixel is one class id"
            )
        return (
            f"holds colours (mode {image.mode}), not class ids; save the mask as a grey or palette PNG of ids, "
            "or, if its colours are those of the label space's classes, set color_coded: true in data.yaml"
        )
    return f"is of mode {image.mode}, which holds no class ids; save the mask as an 8- or 16-bit grey or palette PNG"


def _code(color: Sequence[int]) -> int:
    red, green, blue = color
    return (red << 16) | (green << 8) | blue


def _color_codes(label_space: LabelSpace) -> dict[int, int]:
    """Packed colour -> train id."""
    owner: dict[int, int] = {}
    for train_id, item in enumerate(label_space.classes):
        other = owner.setdefault(_code(item.color), train_id)
        if other != train_id:
            names = f"{label_space.names[other]!r} and {item.name!r}"
            raise UserError(f"colour-coded masks need a colour for each class, but {names} share {tuple(item.color)}")
    return owner


def _name_unknown(codes: np.ndarray[Any, Any], label_space: LabelSpace) -> str:
    found, counts = np.unique(codes, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:5]
    listed = ", ".join(
        f"({found[i] >> 16}, {found[i] >> 8 & 255}, {found[i] & 255}) ({counts[i]} px)" for i in order.tolist()
    )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"colours outside the label space {label_space.name!r}: {listed}{more}; give them to a class, "
        "add them to ignore_colors in data.yaml, or set ignore_unknown: true in the label space"
    )
