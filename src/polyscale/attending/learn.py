"""Learning the attention from cached views; the network that gave them stays as it is."""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from polyscale.attending.config import AttendConfig
from polyscale.attending.controls import Control
from polyscale.attending.views import CachedViews, Looks
from polyscale.attention import AttentionOverViews
from polyscale.labels import IGNORE
from polyscale.losses import cross_entropy
from polyscale.views import View

__all__ = ["learn", "scale_sets"]


def scale_sets(scales: Sequence[float]) -> list[tuple[float, ...]]:
    """What is drawn from in training: the whole chain, and each pair of neighbours, all with scale 1."""
    ordered = tuple(sorted(scales, reverse=True))
    pairs = [pair for pair in pairwise(ordered) if 1.0 in pair] or [p for p in combinations(ordered, 2) if 1.0 in p]
    return [ordered, *(pair for pair in pairs if pair != ordered)]


class _Box(NamedTuple):
    """A part of an image, in fractions of its sides."""

    top: float
    left: float
    mirrored: bool


def learn(
    model: AttentionOverViews | Control,
    cached: CachedViews,
    config: AttendConfig,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``model.head`` in place; every draw is a function of the seed and the step.

    Args:
        model: the network, of which only the head is trained, or a control.
        cached: views of the training images.
        config: settings.
        progress: called with (steps done, steps in all).
    """
    head = model.head
    head.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    batches = max(1, len(cached) // config.batch_size)
    total, device = config.epochs * batches, next(head.parameters()).device
    sets = scale_sets(config.scales) if isinstance(model, AttentionOverViews) else [config.scales]
    for epoch in range(config.epochs):
        order = np.random.default_rng((config.seed, epoch)).permutation(len(cached))
        for number in range(batches):
            step = epoch * batches + number
            rng = np.random.default_rng((config.seed, epoch, number))
            rate = config.lr * min(1.0, (step + 1) / 20) * (1 - step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            chosen = order[number * config.batch_size : (number + 1) * config.batch_size]
            variants = rng.integers(0, config.variants, len(chosen))
            images = [cached.read(int(i), int(v)) for i, v in zip(chosen, variants, strict=True)]
            scales = sets[int(rng.integers(len(sets)))]
            boxes = [_Box(rng.random(), rng.random(), rng.random() < 0.5) for _ in images]
            views, labels = _batch(images, boxes, scales, config.crop_fraction)
            fused = model.fuse({s: _to(view, device) for s, view in views.items()}, labels.shape[-2:])
            loss = cross_entropy(fused.logits, labels.to(device))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if progress is not None:
                progress(step + 1, total)
    head.eval()


def _to(view: View, device: torch.device) -> View:
    features = None if view.features is None else view.features.to(device).float()
    return View(view.logits.to(device).float(), features=features)


def _batch(
    images: Sequence[Looks], boxes: Sequence[_Box], scales: Sequence[float], fraction: float
) -> tuple[dict[float, View], Tensor]:
    """Parts of equal size of several images: their views, and labels at half the image's size.

    The parts begin at whole points of the coarsest grid, so that the views of an image show the same part.
    """
    coarsest = min(scales)
    grids = [image.views[coarsest].logits.shape[-2:] for image in images]
    rows, columns = (max(1, int(fraction * min(grid[axis] for grid in grids))) for axis in (0, 1))
    sizes = [image.labels.shape for image in images]
    stride = max(1, round(min(size[0] / grid[0] for size, grid in zip(sizes, grids, strict=True))))
    views: dict[float, list[View]] = {scale: [] for scale in scales}
    labels = []
    for image, box, grid in zip(images, boxes, grids, strict=True):
        top, left = int(box.top * (grid[0] - rows + 1)), int(box.left * (grid[1] - columns + 1))
        for scale in scales:
            factor = scale / coarsest

            def cut(x: Tensor | None, factor: float = factor, top: int = top, left: int = left) -> Tensor | None:
                return None if x is None else _cut(x, top * factor, left * factor, rows * factor, columns * factor)

            logits = cut(image.views[scale].logits)
            assert logits is not None
            view = View(logits, features=cut(image.views[scale].features))
            views[scale].append(_mirrored(view) if box.mirrored else view)
        part = _cut(image.labels, top * stride, left * stride, rows * stride, columns * stride)
        labels.append((part.flip(-1) if box.mirrored else part)[::2, ::2])
    joined = {
        scale: View(
            torch.cat([view.logits for view in several]),
            features=None
            if several[0].features is None
            else torch.cat([view.features for view in several if view.features is not None]),
        )
        for scale, several in views.items()
    }
    return joined, torch.stack(labels).long()


def _cut(x: Tensor, top: float, left: float, rows: float, columns: float) -> Tensor:
    """A part of the last two axes, moved inside where it would reach over the edge, filled where it cannot."""
    height, width = x.shape[-2:]
    rows, columns = round(rows), round(columns)
    top, left = max(0, min(round(top), height - rows)), max(0, min(round(left), width - columns))
    part = x[..., top : top + rows, left : left + columns]
    short = (0, columns - part.shape[-1], 0, rows - part.shape[-2])
    if any(short):
        part = torch.nn.functional.pad(part, short, value=IGNORE if x.dtype == torch.uint8 else 0)
    return part


def _mirrored(view: View) -> View:
    return View(view.logits.flip(-1), features=None if view.features is None else view.features.flip(-1))
