"""Rectangles of an image, and a few rectangles that cover the pixels wanted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Window", "cover"]

_WORTH = 0.9
"""Share of the cost of one window that two in its place may cost."""


class Window(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the last ones not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> slice:
        """Of an array."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Of an array."""
        return slice(self.left, self.right)

    def times(self, factor: int) -> "Window":
        """The same in a unit that is so many times smaller."""
        return Window(*(side * factor for side in self))

    def grown(self, margin: int) -> "Window":
        """Larger on each side."""
        return Window(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def clip(self, size: Sequence[int]) -> "Window":
        """What of it lies within (H, W)."""
        return Window(max(0, self.top), max(0, self.left), min(size[0], self.bottom), min(size[1], self.right))

    def within(self, outer: "Window") -> "Window":
        """Its position in another window."""
        top, left = outer.top, outer.left
        return Window(self.top - top, self.left - left, self.bottom - top, self.right - left)

    def on(self, shape: Sequence[int], size: Sequence[int]) -> "Window":
        """Its part, of at least one pixel, of a map of ``shape`` (…, h, w) that shows an image of ``size`` (H, W)."""
        high, wide = shape[-2] / size[0], shape[-1] / size[1]
        top, left = (min(round(self.top * high), shape[-2] - 1), min(round(self.left * wide), shape[-1] - 1))
        return Window(top, left, max(round(self.bottom * high), top + 1), max(round(self.right * wide), left + 1))


def cover(wanted: np.ndarray[Any, np.dtype[np.bool_]], margin: float) -> list[Window]:
    """Rectangles that hold all that is wanted, at a small cost: the area of each with its margin.

    The smallest rectangle around all is cut in two where that saves most, and each part again.

    Args:
        wanted: (h, w).
        margin: around each rectangle, in the same unit.
    """
    whole = _box(wanted, Window(0, 0, *wanted.shape))
    return [] if whole is None else _cut(wanted, whole, margin)


def _cut(wanted: np.ndarray[Any, np.dtype[np.bool_]], window: Window, margin: float) -> list[Window]:
    top, left, bottom, right = window
    halves = [(Window(top, left, k, right), Window(k, left, bottom, right)) for k in range(top + 1, bottom)]
    halves += [(Window(top, left, bottom, k), Window(top, k, bottom, right)) for k in range(left + 1, right)]
    best, least = [window], _WORTH * _cost(window, margin)
    for pair in halves:
        parts = [part for part in (_box(wanted, half) for half in pair) if part is not None]
        cost = sum(_cost(part, margin) for part in parts)
        if cost < least:
            best, least = parts, cost
    return best if best == [window] else [piece for part in best for piece in _cut(wanted, part, margin)]


def _cost(window: Window, margin: float) -> float:
    return (window.bottom - window.top + 2 * margin) * (window.right - window.left + 2 * margin)


def _box(wanted: np.ndarray[Any, np.dtype[np.bool_]], window: Window) -> Window | None:
    """The smallest window around the pixels wanted within a window."""
    part = wanted[window.rows, window.columns]
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    if not len(rows):
        return None
    top, left = window.top, window.left
    return Window(top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1)
