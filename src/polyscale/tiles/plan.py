"""How an image is cut into tiles, and what each scale sees around one."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from polyscale.errors import UserError
from polyscale.looker import Looker

__all__ = ["ArrayPixels", "Pair", "Pixels", "Plan", "Span", "Tiles", "round_down"]

Pair = tuple[int, int]

_STRIDE = 32
"""Stride of the coarsest map of nearly every backbone, and a multiple of the others'."""


class Pixels(Protocol):
    """An image of which any part can be read."""

    @property
    def size(self) -> Pair:
        """Height and width."""

    def read(self, rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A part, (h, w, 3) RGB."""


class ArrayPixels:
    """An image in memory, (H, W, 3) uint8 RGB."""

    def __init__(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._pixels = pixels
        self.size: Pair = (pixels.shape[0], pixels.shape[1])

    def read(self, rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A part, (h, w, 3) RGB."""
        return self._pixels[rows, columns]


class Tiles(NamedTuple):
    """How an image is cut."""

    tile: int = 1024
    """Largest side of a window at scale 1, in pixels."""
    overlap: int = 128
    """Pixels at scale 1 that neighbouring tiles share."""

    def check(self, stride: int = _STRIDE) -> None:
        """Make sure that tiles can be cut so.

        Raises:
            UserError: the overlap is negative or too large, or a tile is smaller than the network's stride.
        """
        if self.tile < stride:
            raise UserError(
                f"a tile of {self.tile} pixels is smaller than the network's stride of {stride}; choose --tile 1024, "
                "or 512 where memory is short"
            )
        if not 0 <= self.overlap <= self.tile - stride:
            raise UserError(
                f"an overlap of {self.overlap} pixels does not suit tiles of {self.tile}; choose --overlap from 0 to "
                f"{self.tile - stride}"
            )


class Span(NamedTuple):
    """Part of an axis of an image, in pixels at scale 1."""

    start: int
    stop: int

    def grown(self, by: int, length: int) -> "Span":
        """The same with ``by`` more pixels at each end, as far as the image reaches."""
        return Span(max(0, self.start - by), min(length, self.stop + by))

    def mirrored(self, length: int) -> "Span":
        """The same pixels of the mirrored axis."""
        return Span(length - self.stop, length - self.start)


class Plan(NamedTuple):
    """The tiles of an image, and the windows that each scale sees."""

    size: Pair
    scales: tuple[float, ...]
    margin: int
    """Pixels of each scale's own that it sees around a core."""
    units: dict[float, int]
    """Scale -> pixels of the image after which the network's strides begin anew; one of all scales at key 0."""
    by_scale: bool
    """Each scale has a window of its own; else all scales see what the coarsest needs."""
    region: int
    """Pixels around a core on which views are fused."""
    seam: int
    """Pixels to each side of a seam in which two tiles are blended."""
    rows: list[Span]
    columns: list[Span]

    @classmethod
    def of(cls, looker: Looker, size: Pair, tiles: Tiles, scales: tuple[float, ...]) -> "Plan":
        """The plan for a network.

        Raises:
            UserError: as for ``Tiles.check``.
        """
        stride = math.lcm(_STRIDE, int(getattr(looker.model.segmenter, "multiple", 1)))
        tiles.check(stride)
        kept, margin = tiles.tile - tiles.overlap, tiles.overlap // 2
        units = {scale: _unit(scale, stride) for scale in scales}
        unit = math.lcm(*units.values())
        by_scale = looker.model.shows_scales and unit <= kept
        if not by_scale:
            unit = stride
        units[0] = unit
        if by_scale:  # where an eighth of the stride is a whole number of pixels at each scale
            region = round_down(int(margin / scales[0]), max(1, unit // 8))
            seam = region // 4  # an attention head that reads views of the region needs some of it
        else:
            region, seam = math.ceil(margin / scales[-1] / unit) * unit, margin // 4
        axes = [cut_axis(length, tiles, unit) for length in size]
        seam = min(seam, *((core.stop - core.start) // 2 for core in (*axes[0], *axes[1])))
        return cls(size, scales, margin, units, by_scale, region, seam, *axes)

    def window(self, core: Span, region: Span, scale: float, length: int) -> Span:
        """What one scale sees of an axis: the region, the margin, and what lies up to the network's next stride."""
        unit, margin = self.units[scale], math.ceil(self.margin / scale)
        start = max(0, round_down(core.start - margin, unit))
        start = min(start, region.start)
        return Span(start, min(length, start - round_down(start - max(core.stop + margin, region.stop), unit)))


def _unit(scale: float, stride: int) -> int:
    """The least number of image pixels that are a multiple of ``stride`` pixels at a scale."""
    factor = Fraction(str(scale))
    return stride * factor.denominator // math.gcd(factor.numerator, stride * factor.denominator)


def round_down(value: int, step: int) -> int:
    """The largest multiple of ``step`` that is not above ``value``."""
    return value // step * step


def cut_axis(length: int, tiles: Tiles, unit: int) -> list[Span]:
    """Cut an axis at multiples of ``unit`` into parts of nearly equal size."""
    if length <= tiles.tile:
        return [Span(0, length)]
    # The first and the last tile have a neighbour at one end only, and so may own more.
    more = tiles.overlap // 2 // unit
    inner = max(1, (length + unit // 2) // unit) - 2 * more
    number = max(2, -(-inner // max(1, (tiles.tile - tiles.overlap) // unit)))
    cuts = [0, *((more + inner * k // number) * unit for k in range(1, number)), length]
    return [Span(start, stop) for start, stop in pairwise(cuts) if start < stop]
