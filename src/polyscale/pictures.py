"""Pictures of predictions: overlays, heat maps, error maps, legends and panels of them with captions.

Numpy and Pillow only. The colours of heat maps are those of viridis (by Smith and van der Walt, in the
public domain), kept as 18 points and interpolated, so that nobody who predicts waits for matplotlib.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from polyscale.labels import IGNORE, LabelClass, LabelSpace

__all__ = [
    "HEAT_COLORS",
    "boundaries",
    "error_map",
    "heat_map",
    "label_map",
    "legend",
    "overlay",
    "panel",
    "to_grey8",
    "trust_map",
]

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]

HEAT_COLORS: tuple[Color, ...] = (
    (68, 1, 84), (72, 23, 105), (71, 42, 122), (67, 61, 132), (61, 78, 138), (53, 94, 141), (46, 109, 142),
    (41, 123, 142), (35, 137, 142), (31, 151, 139), (33, 165, 133), (46, 179, 124), (70, 192, 111), (101, 203, 94),
    (137, 213, 72), (176, 221, 47), (216, 226, 25), (253, 231, 37),
)  # fmt: skip
"""Equally spaced colours from 0 (dark violet) to 1 (yellow)."""

_RED = (229, 38, 56)


def to_grey8(values: Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Values (H, W) from 0 to 1 as 0 .. 255, rounded; what lies outside is clipped and NaN is 0."""
    scaled = np.multiply(values, np.float32(255), dtype=np.float32)
    np.fmax(scaled, 0, out=scaled)  # of NaN and a number the number
    np.fmin(scaled, 255, out=scaled)
    return np.asarray(np.rint(scaled, out=scaled), dtype=np.uint8)


def heat_map(values: Array) -> Image.Image:
    """Values (H, W) from 0 to 1 as a palette picture: the index is ``round(255 * value)``, the palette its colour.

    So one file shows the map in any viewer and still holds its values: ``np.array(Image.open(path)) / 255``.
    """
    picture = Image.fromarray(to_grey8(values))
    picture.putpalette(heat_palette().tobytes())
    return picture


def heat_palette() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``HEAT_COLORS``, interpolated to (256, 3)."""
    points = np.linspace(0, 255, len(HEAT_COLORS))
    table = np.stack([np.interp(np.arange(256), points, channel) for channel in zip(*HEAT_COLORS, strict=True)], axis=1)
    return np.asarray(np.rint(table), dtype=np.uint8)


def label_map(labels: Array, label_space: LabelSpace) -> Image.Image:
    """Train ids (H, W) as a data set's mask: an index picture of dataset ids with the classes' colours as palette.

    ``label_space.encode(np.array(picture))`` gives ``labels`` back. Where an id is above 255 the picture has 16 bits
    and no palette.
    """
    ids = label_space.decode(labels)
    picture = Image.fromarray(ids)
    if ids.dtype == np.uint8:
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[[item.ids[0] for item in label_space.classes]] = label_space.palette
        picture.putpalette(palette.tobytes())
    return picture


def boundaries(labels: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Mask (H, W) of the pixels that differ from their right or lower neighbour."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def overlay(
    image: Array, labels: Array, label_space: LabelSpace, alpha: float = 0.5, lines: bool = False
) -> Image.Image:
    """Class colours laid over the image; ignored pixels show the image alone.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) train ids.
        label_space: whose colours.
        alpha: share of the class colour, 0 (image only) to 1 (colours only).
        lines: draw the pixels at class boundaries in full colour, which keeps classes of one pixel's width visible.

    Raises:
        ValueError: ``alpha`` is outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in 0 to 1, got {alpha}")
    # A table gives each of a pixel's 256 values in each class; whole images in floating point take five times as long.
    values = np.arange(256, dtype=np.float32)
    table = np.empty((256, 3, 256), dtype=np.uint8)
    table[:] = np.arange(256, dtype=np.uint8)
    colors = label_space.palette.astype(np.float32)[..., None]
    table[: len(colors)] = np.rint(values + np.float32(alpha) * (colors - values))
    blended = np.empty_like(image)
    shifted = labels.astype(np.uint16) << 8
    for channel in range(3):
        blended[..., channel] = table[:, channel].reshape(-1)[shifted | image[..., channel]]
    if lines:
        edges = boundaries(labels) & (labels != IGNORE)
        blended[edges] = label_space.palette[labels[edges]]
    return Image.fromarray(blended)


def error_map(image: Array, labels: Array, truth: Array) -> Image.Image:
    """Wrong pixels red, right ones the image in pale grey, ignored ones black.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) predicted train ids.
        truth: (H, W) true train ids.
    """
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    shown = np.repeat((96 + 0.5 * grey)[..., None], 3, axis=2)
    # A trace of the image stays visible under the red, so that one sees what was taken for something else.
    wrong = labels != truth
    shown[wrong] = 0.85 * np.array(_RED, dtype=np.float32) + 0.15 * grey[wrong][:, None]
    shown[truth == IGNORE] = 0
    return Image.fromarray(np.rint(shown).astype(np.uint8))


def trust_map(image: Array, weights: Sequence[Array], colors: Sequence[Color]) -> Image.Image:
    """Which scale counts most, and how much: the hue of the largest weight, the stronger the larger, over the image.

    Args:
        image: (H, W, 3) uint8 RGB.
        weights: of each scale, (H, W), 0 to 255 or 0 to 1; they sum to one everywhere.
        colors: of each scale.
    """
    stack = np.stack([np.asarray(weight, dtype=np.float32) for weight in weights])
    stack /= np.maximum(stack.sum(0), 1e-6)
    least = 1 / len(weights)
    share = 0.15 + 0.8 * (stack.max(0) - least).clip(0) / (1 - least)
    hue = np.array(colors, dtype=np.float32)[stack.argmax(0)]
    grey = 70 + 0.55 * (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return Image.fromarray(np.rint(grey + share[..., None] * (hue - grey)).astype(np.uint8))


def legend(classes: LabelSpace | Sequence[LabelClass], width: int, size: int = 14) -> Image.Image:
    """The classes as colour and name, in as many rows as ``width`` pixels need; white ground, text ``size`` px high."""
    if isinstance(classes, LabelSpace):
        classes = classes.classes
    font = ImageFont.load_default(size)
    swatch, gap = size, max(2, size // 2)
    rows: list[list[tuple[int, str, Color]]] = [[]]
    x = gap
    for item in classes:
        name = _shortened(item.name, font, max(width - 3 * gap - swatch, size))
        needed = swatch + gap + int(np.ceil(font.getlength(name))) + 2 * gap
        if rows[-1] and x + needed > width:
            rows.append([])
            x = gap
        rows[-1].append((x, name, item.color))
        x += needed
    line = size + gap
    picture = Image.new("RGB", (max(width, 1), line * len(rows) + gap), "white")
    draw = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        top = gap + number * line
        for left, name, color in row:
            draw.rectangle((left, top, left + swatch - 1, top + swatch - 1), fill=color, outline=(120, 120, 120))
            draw.text((left + swatch + gap, top + swatch / 2), name, fill=(30, 30, 30), font=font, anchor="lm")
    return picture


def panel(
    pictures: Sequence[tuple[str, Image.Image]],
    columns: int,
    footer: Image.Image | None = None,
    size: int = 16,
    gap: int = 12,
) -> Image.Image:
    """Pictures side by side, each under its caption, on white.

    Args:
        pictures: (caption, picture) in reading order; sizes may differ. A column is as wide as its widest picture.
        columns: number of columns.
        footer: a picture below everything, such as a legend.
        size: height of the captions in pixels; a caption too long for its column ends in an ellipsis.
        gap: pixels between the cells and around them.

    Raises:
        ValueError: no pictures, or fewer than one column.
    """
    if not pictures or columns < 1:
        raise ValueError(f"a panel needs at least one picture and one column, got {len(pictures)} and {columns}")
    font = ImageFont.load_default(size)
    columns = min(columns, len(pictures))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    widths = [max(row[k][1].width for row in rows if k < len(row)) for k in range(columns)]
    heights = [max(picture.height for _, picture in row) for row in rows]
    head = size + size // 2
    width = sum(widths) + gap * (columns + 1)
    height = sum(heights) + len(rows) * (head + gap) + gap
    if footer is not None:
        width, height = max(width, footer.width + 2 * gap), height + footer.height + gap
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, row_height in zip(rows, heights, strict=True):
        left = gap
        for (caption, picture), cell in zip(row, widths, strict=False):
            draw.text((left, top), _shortened(caption, font, cell), fill=(30, 30, 30), font=font)
            sheet.paste(picture.convert("RGB"), (left, top + head))
            left += cell + gap
        top += head + row_height + gap
    if footer is not None:
        sheet.paste(footer.convert("RGB"), (gap, top))
    return sheet


def _shortened(text: str, font: Any, width: int) -> str:
    """``text``, or as much of it as fits into ``width`` pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
