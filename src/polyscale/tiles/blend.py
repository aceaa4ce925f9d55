"""Tiles put together: blended at their seams, and given away as soon as nothing more is added to them.

Only what lies on seams is kept between tiles: of the last tile its right end, and of the row above its lower end.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polyscale.tiles.plan import Plan, Span

__all__ = ["Block", "blend"]


class Block(NamedTuple):
    """A finished part of the image; blocks come in rows from top to bottom, and in a row from left to right."""

    rows: slice
    columns: slice
    labels: np.ndarray[Any, np.dtype[np.uint8]]
    """Most probable class, (h, w)."""
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    """Its probability, (h, w)."""
    weights: dict[float, np.ndarray[Any, np.dtype[np.float32]]]
    """Scale -> how much it counts in the class chosen, (h, w), finest first."""
    done: int
    """Tiles that are done."""
    total: int
    """Tiles of the image."""


def blend(plan: Plan, look_at: Callable[[Span, Span], Tensor], scales: Sequence[float]) -> Iterator[Block]:
    """Blend the tiles at their seams, and give each part when nothing more is added to it."""
    (height, width), seam = plan.size, plan.seam
    total, done = len(plan.rows) * len(plan.columns), 0
    above: Tensor | None = None
    for rows in plan.rows:
        high = rows.grown(seam, height)
        below: Tensor | None = None
        left: Tensor | None = None
        for columns in plan.columns:
            wide = columns.grown(seam, width)
            found = look_at(rows, columns).clone()
            for axis, core, length in ((1, rows, height), (2, columns, width)):
                found = _faded(found, axis, seam, core.start > 0, core.stop < length)
            if left is not None and seam:
                found[:, :, : 2 * seam].add_(left)
            bottom = high.stop - (2 * seam if rows.stop < height else 0)
            right = wide.stop - (2 * seam if columns.stop < width else 0)
            left = found[:, :, right - wide.start :].clone()
            found = found[:, :, : right - wide.start]
            if bottom < high.stop:
                if below is None:
                    below = found.new_empty(len(found), high.stop - bottom, width)
                below[:, :, wide.start : right] = found[:, bottom - high.start :]
            found = found[:, : bottom - high.start]
            if above is not None and seam:
                found[:, : 2 * seam].add_(above[:, :, wide.start : right])
            done += 1
            yield _block(found, slice(high.start, bottom), slice(wide.start, right), scales, done, total)
        above = below


def _faded(found: Tensor, axis: int, seam: int, first: bool, last: bool) -> Tensor:
    """Let a tile fade out over its seams; with what its neighbour adds the shares are 1 everywhere."""
    if not seam or not (first or last):
        return found
    ramp = (torch.arange(2 * seam, device=found.device, dtype=found.dtype) + 0.5) / (2 * seam)
    share = found.new_ones(found.shape[axis])
    if first:
        share[: 2 * seam] *= ramp
    if last:
        share[-2 * seam :] *= 1 - ramp
    return found * (share[:, None] if axis == 1 else share)


def _block(found: Tensor, rows: slice, columns: slice, scales: Sequence[float], done: int, total: int) -> Block:
    num_classes = len(found) - len(scales)
    confidence, labels = found[:num_classes].max(0)
    weights = {scale: found[num_classes + k].cpu().numpy() for k, scale in enumerate(scales)}
    return Block(rows, columns, labels.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy(), weights, done, total)
