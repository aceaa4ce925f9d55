"""Coarse polygon labels out of exact ones, as somebody in a hurry draws them: for auto-labelling to refine.

Regions are eroded and traced on a grid of cells a few pixels wide, not on the pixels. A cell counts only
where all of its pixels and all of its neighbours agree, so thin things vanish and polygons keep clear of borders; and
tracing stays quick in plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from polyscale.labels import IGNORE

__all__ = ["coarse_labels"]

Array = np.ndarray[Any, np.dtype[Any]]

_SMALLEST_REGION = 8
"""Regions and holes of fewer cells are passed over."""


def coarse_labels(
    labels: Array,
    seed: int | Sequence[int] = 0,
    cell: int | None = None,
    tolerance: float = 1.5,
    skip_fraction: float = 0.1,
) -> Array:
    """Coarse labels of one image: eroded regions as polygons of few corners, and everything else ignored.

    Args:
        labels: (H, W) uint8 train ids; ``IGNORE`` stays ignored.
        seed: of the hand's unsteadiness; the same seed gives the same polygons.
        cell: width of a grid cell in pixels; regions shrink by one to two cells. By default 3 at 256 x 512, in
            proportion to the shorter side.
        tolerance: how far, in cells, a polygon may leave the region's outline; larger means fewer corners.
        skip_fraction: share of the small regions (under 1 % of the image) that the annotator passes over, 0 to 1.

    Returns:
        (H, W) uint8 train ids or ``IGNORE``.

    Example:
        >>> fine = np.zeros((64, 64), np.uint8)
        >>> fine[:, 30:32] = 4
        >>> np.unique(coarse_labels(fine)).tolist()
        [0, 255]
    """
    height, width = labels.shape
    rng = np.random.default_rng(seed)
    cell = cell or max(1, round(3 * min(height, width) / 256))
    grid = _eroded_cells(labels, cell)
    coarse = np.full((height, width), IGNORE, dtype=np.uint8)
    counts = np.bincount(grid.ravel(), minlength=256)
    # The smaller class keeps the pixels where two polygons meet.
    for label in sorted(np.flatnonzero(counts[:IGNORE]).tolist(), key=lambda number: int(counts[number])):
        plane = Image.new("1", (width, height), 0)
        draw = ImageDraw.Draw(plane)
        loops = [(_area(loop), loop) for loop in _trace(grid == label)]
        # Large before small paints a hole over its region, and an island over its hole.
        for area, loop in sorted(loops, key=lambda item: -abs(item[0])):
            small = area < 0.01 * grid.size
            if abs(area) < _SMALLEST_REGION or (area > 0 and small and rng.random() < skip_fraction):
                continue
            corners = _simplified(loop, tolerance)
            if len(corners) >= 3:
                jittered = (corners + rng.uniform(-0.5, 0.5, corners.shape)) * cell - 0.5
                draw.polygon(jittered.ravel().tolist(), fill=int(area > 0))
        coarse[np.asarray(plane) & (coarse == IGNORE)] = label
    return coarse


def _eroded_cells(labels: Array, cell: int) -> Array:
    """Label of each cell that is of one class with all its neighbours, else ``IGNORE``; (rows, columns) uint8."""
    height, width = labels.shape
    padded = np.pad(labels, ((0, -height % cell), (0, -width % cell)), mode="edge")
    rows, columns = padded.shape[0] // cell, padded.shape[1] // cell
    blocks = padded.reshape(rows, cell, columns, cell)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    # The image's edge is no border of a region, hence the repetition of the outermost cells.
    low, high = np.pad(low, 1, mode="edge"), np.pad(high, 1, mode="edge")
    for axis in (0, 1):
        first, middle, last = (_along(axis, slice(start, stop)) for start, stop in ((None, -2), (1, -1), (2, None)))
        low = np.minimum(np.minimum(low[first], low[middle]), low[last])
        high = np.maximum(np.maximum(high[first], high[middle]), high[last])
    return np.where(low == high, low, IGNORE).astype(np.uint8)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _trace(mask: Array) -> list[list[tuple[int, int]]]:
    """Outlines of a mask's regions, as closed loops of corners (column, row); clockwise on the screen, holes not."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # The four sides of a cell, walked with the cell on the right hand: start and end relative to its upper left corner.
    for neighbour, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    ):
        rows, columns = np.nonzero(inside & ~neighbour)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            follow.setdefault((column + start[0], row + start[1]), []).append((column + end[0], row + end[1]))
    loops = []
    while follow:
        first = next(iter(follow))
        corners: list[tuple[int, int]] = []
        point, heading = first, (0, 0)
        while True:
            ends = follow[point]
            # Where two regions touch at a corner there are two ways on; the right turn keeps them apart.
            right = (point[0] - heading[1], point[1] + heading[0])
            chosen = ends.index(right) if right in ends else 0
            following = ends.pop(chosen)
            if not ends:
                del follow[point]
            step = (following[0] - point[0], following[1] - point[1])
            if step != heading:
                corners.append(point)
            point, heading = following, step
            if point == first:
                break
        loops.append(corners)
    return loops


def _area(loop: list[tuple[int, int]]) -> float:
    """Cells within a loop, negative for a hole."""
    points = np.array(loop)
    x, y = points[:, 0], points[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def _simplified(loop: list[tuple[int, int]], tolerance: float) -> Array:
    """Corners of a closed loop, without those that are within ``tolerance`` of the rest (Douglas and Peucker 1973)."""
    points = np.array([*loop, loop[0]], dtype=np.float64)
    far = int(np.argmax(np.hypot(*(points - points[0]).T)))
    kept = {0, far}
    stack = [(0, far), (far, len(points) - 1)]
    while stack:
        start, end = stack.pop()
        if end - start < 2:
            continue
        chord, offsets = points[end] - points[start], points[start + 1 : end] - points[start]
        distance = np.abs(chord[0] * offsets[:, 1] - chord[1] * offsets[:, 0]) / max(float(np.hypot(*chord)), 1e-9)
        worst = int(np.argmax(distance))
        if distance[worst] > tolerance:
            middle = start + 1 + worst
            kept.add(middle)
            stack += [(start, middle), (middle, end)]
    return np.asarray(points[sorted(kept)])
