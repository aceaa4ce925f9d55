"""Regions as polygons, and polygons as regions: exact on the pixel grid.

Corners of pixels have whole coordinates, x to the right and y down, so that pixel (row 0, column 0) is the square from
(0, 0) to (1, 1). A pixel belongs to a polygon if its centre does, by the even-odd rule. So a ring within a ring is a
hole, and what is traced is filled to the very same pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = ["Ring", "area", "bridge", "fill", "simplify", "trace"]

Ring = np.ndarray[Any, np.dtype[np.float64]]
"""(N, 2) corners x, y of a closed line; the last is joined to the first."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_AT_ONCE = 1_000_000
"""Crossings of edges and rows that are in memory; a polygon of many corners in a high image has any number."""


def fill(rings: Iterable[Any], height: int, width: int) -> Mask:
    """The pixels whose centres lie inside an odd number of rings.

    Args:
        rings: each (N, 2) corners x, y; they may leave the image.
        height: of the image.
        width: of the image.

    Returns:
        (H, W) bool.

    Example:
        >>> fill([[(0, 0), (2, 0), (2, 1), (0, 1)]], 2, 3).astype(int).tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    toggles = np.zeros((height, width + 1), dtype=np.uint8)
    for ring in rings:
        corners = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
        _toggle(toggles, corners, np.roll(corners, -1, axis=0))
    inside: Mask = np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].astype(bool)
    return inside


def _toggle(toggles: np.ndarray[Any, Any], starts: Ring, ends: Ring) -> None:
    """Mark, in each row, the first pixel whose centre lies beyond an edge."""
    height, width = toggles.shape[0], toggles.shape[1] - 1
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    # Rows whose centre y + 0.5 is in [low, high): an upper corner counts and a lower one does not, so that each ring
    # crosses a row an even number of times.
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(last - first, 0)
    cuts = np.searchsorted(np.cumsum(counts), np.arange(_AT_ONCE, counts.sum(), _AT_ONCE))
    for some in np.split(np.arange(len(counts)), cuts):
        edges, before = np.repeat(some, counts[some]), np.cumsum(counts[some]) - counts[some]
        rows = np.arange(len(edges)) - np.repeat(before, counts[some]) + first[edges]
        (x0, y0), (x1, y1) = starts[edges].T, ends[edges].T
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.bitwise_xor.at(toggles, (rows, columns), 1)


def trace(mask: Mask) -> list[list[Ring]]:
    """The outlines of a mask's regions, pixels that touch at a side being one region.

    Args:
        mask: (H, W) bool.

    Returns:
        For each region its outer ring, clockwise on the screen, and then the rings of its holes; ``fill`` of all rings
        gives ``mask``.
    """
    padded = np.pad(np.asarray(mask, dtype=np.int8), 1)
    following = _boundary(padded)
    outers: list[Ring] = []
    holes: list[Ring] = []
    while following:
        ring = _follow(following)
        (outers if area(ring) > 0 else holes).append(ring)
    if len(outers) == 1:
        return [[outers[0], *holes]]
    regions = [[outer] for outer in sorted(outers, key=area)]
    boxes = [(*ring[0].min(axis=0), *ring[0].max(axis=0)) for ring in regions]
    for hole in holes:
        x, y = hole.min(axis=0)
        for region, (left, top, right, bottom) in zip(regions, boxes, strict=True):
            # The smallest region around the hole owns it: around its upper left pixel, just outside of it.
            if left <= x <= right and top <= y <= bottom and _surrounds(region[0], hole):
                region.append(hole)
                break
    return regions


def _boundary(padded: np.ndarray[Any, Any]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Unit steps along the edges of regions, by where they begin; the region lies to the right of each."""
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    down = np.diff(padded, axis=0)[:, 1:-1]  # between row y - 1 and y
    across = np.diff(padded, axis=1)[1:-1]
    for values, change, (dx, dy), (ox, oy) in (
        (down, 1, (1, 0), (0, 0)),  # upper edge: to the right
        (down, -1, (-1, 0), (1, 0)),  # lower edge: to the left
        (across, 1, (0, -1), (0, 1)),  # left edge: upwards
        (across, -1, (0, 1), (0, 0)),  # right edge: downwards
    ):
        ys, xs = np.nonzero(values == change)
        for x, y in zip((xs + ox).tolist(), (ys + oy).tolist(), strict=True):
            steps.setdefault((x, y), []).append((dx, dy))
    return steps


def _follow(steps: dict[tuple[int, int], list[tuple[int, int]]]) -> Ring:
    """Take one ring out of the steps; only its turning points are kept."""
    start = x, y = next(iter(steps))
    corners: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    first: tuple[int, int] | None = None
    while True:
        choices = steps[x, y]
        # Where two pixels touch at a corner alone there are two ways: the right turn stays with the same pixel.
        step = choices[0]
        if len(choices) == 2 and before is not None and (-before[1], before[0]) in choices:
            step = (-before[1], before[0])
        choices.remove(step)
        if not choices:
            del steps[x, y]
        if step != before:
            corners.append((x, y))
        before, first = step, first or step
        x, y = x + step[0], y + step[1]
        if (x, y) == start and not (len(steps.get(start, ())) and _goes_on(steps[start], before)):
            break
    if before == first:
        corners.pop(0)
    return np.array(corners, dtype=np.float64)


def _goes_on(choices: list[tuple[int, int]], before: tuple[int, int]) -> bool:
    """Whether a ring that is back at its start has another way to go that belongs to the same pixel."""
    return (-before[1], before[0]) in choices


def _surrounds(outer: Ring, hole: Ring) -> bool:
    """Whether a pixel of the region beside the hole lies inside the outer ring."""
    first = hole[np.lexsort((hole[:, 0], hole[:, 1]))[0]]
    x, y = first[0] + 0.5, first[1] - 0.5  # the pixel above the hole's uppermost left corner belongs to the region
    (x0, y0), (x1, y1) = outer.T, np.roll(outer, -1, axis=0).T
    crossing = (y0 <= y) != (y1 <= y)
    at = x0[crossing] + (y - y0[crossing]) * (x1 - x0)[crossing] / (y1 - y0)[crossing]
    return bool((at > x).sum() % 2)


def area(ring: Ring) -> float:
    """Signed area in pixels: positive where the ring runs clockwise on the screen."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Leave out corners that lie within ``tolerance`` pixels of the line (Douglas and Peucker, 1973)."""
    if tolerance <= 0 or len(ring) < 5:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    kept = sorted({0, far, *_between(closed, 0, far, tolerance), *_between(closed, far, len(ring), tolerance)})
    return ring[kept] if len(kept) > 2 else ring


def _between(points: Ring, first: int, last: int, tolerance: float) -> list[int]:
    kept: list[int] = []
    todo = [(first, last)]
    while todo:
        low, high = todo.pop()
        if high - low < 2:
            continue
        line = points[high] - points[low]
        offset = points[low + 1 : high] - points[low]
        length = float(np.hypot(*line))
        distance = (
            np.abs(offset[:, 0] * line[1] - offset[:, 1] * line[0]) / length
            if length
            else np.hypot(offset[:, 0], offset[:, 1])
        )
        farthest = int(np.argmax(distance))
        if distance[farthest] > tolerance:
            middle = low + 1 + farthest
            kept.append(middle)
            todo += [(low, middle), (middle, high)]
    return kept


def bridge(rings: Sequence[Ring]) -> Ring:
    """An outer ring and its holes as one ring, for formats that know no holes: each is reached by a line of no width.

    ``fill`` of the result gives the pixels of ``rings``.
    """
    joined = rings[0]
    for hole in rings[1:]:
        distances = ((joined[:, None, :] - hole[None, :, :]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(np.argmin(distances)), distances.shape)
        turned = np.roll(hole, -int(there), axis=0)
        joined = np.concatenate([joined[: here + 1], turned, turned[:1], joined[here:]])
    return joined
