"""The canvas of the drawn streets: one drawing of *parts*, from which both the image and its labels are looked up.

Nothing is drawn twice. A scene is painted far to near on a single plane whose pixels hold part numbers
(this wall, that car's windows, this post). Tables then turn part numbers into colour, texture strength and label. So
labels are exact by construction, whatever hides what, and a scene costs one pass of PIL instead of two. Textures and
noise come from banks that are made on first use from a fixed seed and cut at random offsets, because drawing fresh
normal numbers for every pixel would take most of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["Canvas", "Color", "Label", "Material", "crown_shapes"]

Array = np.ndarray[Any, np.dtype[Any]]
Color = tuple[float, float, float]
Point = tuple[float, float]

_BANK = (384, 768)
_NOISE_LEVELS = (1.5, 3.0, 4.5, 6.5)


class Label(IntEnum):
    """Train ids of the drawn streets."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    SKY = 3
    POLE = 4
    SIGN = 5
    VEGETATION = 6
    CAR = 7
    PERSON = 8


class Material(NamedTuple):
    """Texture of a part: relative standard deviations of fine grain, of slow mottling and of leaf-like blotches."""

    grain: float = 0.02
    mottle: float = 0.02
    leaf: float = 0.0


class Canvas:
    """A plane of part numbers, (H, W), with the tables that say what each part looks like and means."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._plane = Image.new("I", (width, height), 0)
        self._draw = ImageDraw.Draw(self._plane)
        # 1 where a shadow falls, 2 where a wire hangs; what is there decides whether that darkens it.
        self._dark = Image.new("L", (width, height), 0)
        self._dark_draw = ImageDraw.Draw(self._dark)
        self._labels: list[int] = []
        self._colors: list[Color] = []
        self._materials: list[Material] = []

    def part(self, label: Label, color: Color, material: Material = Material()) -> int:  # noqa: B008 - immutable
        """Add a part and return its number. Part 0, the first one added, is what an untouched canvas shows."""
        self._labels.append(int(label))
        self._colors.append(color)
        self._materials.append(material)
        return len(self._labels) - 1

    def polygon(self, points: Sequence[Point], part: int) -> None:
        """Fill a polygon; corners (x, y) in pixels may lie far outside."""
        self._draw.polygon(points, fill=part)

    def box(self, left: float, top: float, right: float, bottom: float, part: int) -> None:
        """Fill columns [left, right) and rows [top, bottom), rounded; at least one pixel."""
        x, y = round(left), round(top)
        self._draw.rectangle((x, y, max(x, round(right) - 1), max(y, round(bottom) - 1)), fill=part)

    def ellipse(self, left: float, top: float, right: float, bottom: float, part: int) -> None:
        """Fill an ellipse given by its bounding box."""
        self._draw.ellipse((left, top, max(left, right), max(top, bottom)), fill=part)

    def line(self, points: Sequence[Point], part: int, width: int = 1) -> None:
        """Draw a line of whole pixels."""
        self._draw.line(points, fill=part, width=width)

    def stamp(self, shape: Image.Image, left: float, top: float, width: float, height: float, part: int) -> None:
        """Fill the set pixels of a bilevel ``shape`` that is resized to ``width`` x ``height``."""
        size = (max(1, round(width)), max(1, round(height)))
        self._draw.bitmap((round(left), round(top)), shape.resize(size, Image.Resampling.NEAREST), fill=part)

    def shade(self, points: Sequence[Point]) -> None:
        """Cast a shadow: it darkens the ground within the polygon, and nothing that stands on it."""
        self._dark_draw.polygon(points, fill=1)

    def shade_ellipse(self, left: float, top: float, right: float, bottom: float) -> None:
        """Cast an elliptic shadow on the ground."""
        self._dark_draw.ellipse((left, top, max(left, right), max(top, bottom)), fill=1)

    def wire(self, points: Sequence[Point]) -> None:
        """Hang a wire, one pixel thin: it darkens sky and walls behind it, and takes their label."""
        self._dark_draw.line(points, fill=2)

    def labels(self) -> Array:
        """Train ids, (H, W) uint8."""
        return np.take(np.array(self._labels, dtype=np.uint8), np.asarray(self._plane))

    def render(self, rng: np.random.Generator) -> Array:
        """The image as a camera sees it, (H, W, 3) uint8 RGB: textured, lit, exposed, blurred and noisy."""
        # Tables are looked up quickest by this type of index and without a check, which part numbers do not need.
        parts = np.asarray(self._plane).astype(np.intp)
        light = self._light(parts, rng)
        image = np.take(self._exposed_colors(rng), parts, axis=0, mode="clip")
        image *= light[..., None]
        np.clip(image, 0, 255, out=image)
        seen = image.astype(np.uint8)
        if rng.random() < 0.4:
            radius = float(rng.uniform(0.2, 0.55))
            seen = np.asarray(Image.fromarray(seen).filter(ImageFilter.BoxBlur(radius)))
        noise = _cut(f"noise{int(rng.integers(len(_NOISE_LEVELS)))}", self.height, self.width, rng)
        noisy = np.add(seen, noise, dtype=np.int16)
        np.clip(noisy, 0, 255, out=noisy)
        return noisy.astype(np.uint8)

    def _light(self, parts: Array, rng: np.random.Generator) -> Array:
        """Multiplier of every pixel, (H, W) float32."""
        height, width = self.height, self.width
        materials = np.array(self._materials, dtype=np.float32).T.copy()
        light = np.take(materials[0], parts, mode="clip")
        light *= _cut("grain", height, width, rng)
        for row, name in ((1, "mottle"), (2, "leaf")):
            term = np.take(materials[row], parts, mode="clip")
            term *= _cut(name, height, width, rng)
            light += term
        light += 1
        # One plane of light over the whole picture, sky included, so that shading does not tell sky from wall.
        down, across = rng.uniform(-0.1, 0.1, 2).tolist()
        light *= (1 + down * np.linspace(-1, 1, height, dtype=np.float32))[:, None]
        light *= (1 + across * np.linspace(-1, 1, width, dtype=np.float32))[None, :]
        light *= np.take(self._dark_table(rng), 3 * parts + np.asarray(self._dark), mode="clip")
        return np.asarray(light)

    def _dark_table(self, rng: np.random.Generator) -> Array:
        """Multiplier of part p under darkness v at position 3 p + v, (3 parts,) float32."""
        labels = np.array(self._labels)
        table = np.ones((len(labels), 3), dtype=np.float32)
        table[(labels == Label.ROAD) | (labels == Label.SIDEWALK), 1] = rng.uniform(0.45, 0.7)
        table[(labels == Label.SKY) | (labels == Label.BUILDING), 2] = rng.uniform(0.5, 0.85)
        return table.ravel()

    def _exposed_colors(self, rng: np.random.Generator) -> Array:
        """Colours of the parts under this camera's gain, gamma and cast, (parts, 3) float32."""
        colors = np.array(self._colors, dtype=np.float32) / 255
        np.clip(colors, 0, 1, out=colors)
        gain, gamma = float(rng.uniform(0.76, 1.1)), float(np.exp(rng.uniform(-0.25, 0.25)))
        cast = 1 + rng.normal(0, 0.035, 3).astype(np.float32)
        return np.asarray(255 * gain * cast * colors**gamma, dtype=np.float32)


def _cut(name: str, height: int, width: int, rng: np.random.Generator) -> Array:
    """A piece of a bank at a random offset, mirrored at random; the bank repeats where the piece is larger."""
    bank = _bank(name, -(-height // _BANK[0]), -(-width // _BANK[1]))
    top = int(rng.integers(bank.shape[0] - height + 1))
    left = int(rng.integers(bank.shape[1] - width + 1))
    piece = bank[top : top + height, left : left + width]
    return piece[:, ::-1] if rng.random() < 0.5 else piece


def _smooth_noise(rng: np.random.Generator, cell: float) -> Array:
    """Unit-variance noise over the bank's size whose blobs are about ``cell`` pixels wide, float32."""
    rows, columns = (max(2, round(side / cell)) for side in _BANK)
    small = Image.fromarray(rng.normal(size=(rows, columns)).astype(np.float32))
    noise = np.asarray(small.resize((_BANK[1], _BANK[0]), Image.Resampling.BICUBIC))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


@functools.lru_cache(maxsize=24)
def _bank(name: str, rows: int, columns: int) -> Array:
    """A texture (H, W) float32 or camera noise (H, W, 3) int16, repeated ``rows`` x ``columns`` times."""
    if (rows, columns) != (1, 1):
        base = _bank(name, 1, 1)
        return _frozen(np.tile(base, (rows, columns) + (1,) * (base.ndim - 2)))
    rng = np.random.default_rng(list(name.encode()))
    if name.startswith("noise"):
        sigma = _NOISE_LEVELS[int(name[-1])]
        return _frozen(np.rint(rng.normal(0, sigma, (*_BANK, 3))).astype(np.int16))
    if name == "grain":
        bank = 0.6 * rng.normal(size=_BANK) + 0.8 * _smooth_noise(rng, 1.8)
    elif name == "mottle":
        bank = 0.8 * _smooth_noise(rng, 30) + 0.6 * _smooth_noise(rng, 12)
    else:
        bank = 0.5 * rng.normal(size=_BANK) + 0.7 * _smooth_noise(rng, 3) + 0.5 * _smooth_noise(rng, 8)
    return _frozen(np.clip(bank, -2.5, 2.5).astype(np.float32))


@functools.cache
def crown_shapes() -> tuple[Image.Image, ...]:
    """Ragged blobs, bilevel 64 x 64: eight outlines of crowns and bushes, then eight of the clumps within them."""
    shapes = []
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    for number in range(16):
        rng = np.random.default_rng([13, number])
        ragged = sum(
            weight
            * np.asarray(
                Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC)
            )
            for n, weight in ((5, 0.22), (14, 0.16), (32, 0.12))
        )
        inside = np.hypot(rows, columns) + ragged < (0.82 if number < 8 else 0.6)
        if number >= 8:
            inside &= np.asarray(_smooth_noise(rng, 9))[:64, :64] > 0.2
        shapes.append(Image.fromarray(inside.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE))
    return tuple(shapes)


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array
