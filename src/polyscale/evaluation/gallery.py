"""The images that a report shows in full: which ones, and their files.

All values are pictures of 8 bits: class ids, weights and confidences as grey levels, the photograph as JPEG. Which
images are the worst is known at the end only, so an image is written when it is among the worst so far, and removed
when others turn out worse.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from polyscale.data.png import write_index_png
from polyscale.evaluation.counts import Seen
from polyscale.files import write_atomically
from polyscale.labels import IGNORE
from polyscale.pictures import error_map
from polyscale.scales import scaled_size
from polyscale.views import View, at_size

__all__ = ["Gallery", "are_few", "encode_logits", "write_image", "write_thumbnail"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

LONGEST_MAP = 384
"""Weights and confidences are stored at a whole fraction of the image's size, at most half of it, whose longer side is
at most this: networks work on a grid of every fourth pixel, and finer maps would hold nothing more."""

THUMBNAIL = 192
"""Longer side of a thumbnail in pixels."""

FEW_LOGITS = 2_000_000
"""Of an image in all views: at 11 classes and scales up to 2, about 850 x 650 pixels."""

DEEPEST = 32.0
"""Logits further below the best than this are stored as if they were no further."""


class Gallery:
    """Chooses images: half of them the worst, a quarter those that gain most over averaging, a quarter that lose most.

    Args:
        size: how many to keep; None keeps all.
    """

    def __init__(self, size: int | None) -> None:
        self.size = size
        worst = 0 if size is None else size - 2 * (size // 4)
        self._kinds = [(worst, 1), (0 if size is None else size // 4, -1), (0 if size is None else size // 4, 1)]
        self._best: list[list[tuple[float, int]]] = [[], [], []]

    def offer(self, index: int, score: float | None, gain: float | None) -> tuple[bool, list[int]]:
        """Whether to keep this image, and the numbers of those that need not be kept any more.

        Args:
            index: of the image.
            score: its mIoU, or None.
            gain: of its mIoU over averaging, or None.
        """
        if self.size is None:
            return True, []
        before = self.chosen()
        for best, (most, sign), value in zip(self._best, self._kinds, (score, gain, gain), strict=True):
            if value is not None:
                best.append((sign * value, index))
                best.sort()
                del best[most:]
        after = self.chosen()
        return index in after, sorted(before - after - {index})

    def chosen(self) -> set[int]:
        """Numbers of the images kept so far."""
        return {index for best in self._best for _, index in best}


def write_image(
    folder: Path,
    image: Array,
    labels: Tensor | None,
    seen: Mapping[str, Seen],
    weights: Mapping[float, Tensor] | None,
    views: Mapping[float, View] | None,
) -> dict[str, Any]:
    """Write one image's files.

    Args:
        folder: its own.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8; None where nobody knows them.
        seen: name of the file -> class ids and confidence.
        weights: scale -> (1, 1, H, W).
        views: scale -> view on its own grid; their logits and attention are stored as well. Logits at the size of what
            the network was shown are thinned to every fourth pixel: those are enlarged from about such a grid.

    Returns:
        What a reader must know of them: how large the maps are, and of the logits grid and range.
    """
    height, width = image.shape[:2]
    factor = max(2, -(-max(height, width) // LONGEST_MAP))
    about: dict[str, Any] = {"map_size": [-(-height // factor), -(-width // factor)], "logits": {}}
    with write_atomically(folder / "photo.jpg") as temporary:
        Image.fromarray(image).save(temporary, "JPEG", quality=92, subsampling=0)
    if labels is not None:
        write_index_png(folder / "truth.png", labels.cpu().numpy(), None)
    for name, (classes, confidence) in seen.items():
        write_index_png(folder / f"{name}.png", classes.cpu().numpy(), None)
        if confidence is not None:
            _save(folder / f"confidence-{name}.png", _shrunk(confidence, factor))
    for scale, weight in (weights or {}).items():
        _save(folder / f"weight-{scale:g}.png", _shrunk(weight[0, 0], factor))
    for scale, view in thinned(views or {}, (height, width)).items():
        stored, deepest = encode_logits(view.logits[0])
        _save(folder / f"logits-{scale:g}.png", stored.flatten(0, 1), effort=6)
        if view.attention is not None:
            trust = (view.attention[0].float() * 255).round().byte()
            _save(folder / f"attention-{scale:g}.png", trust.flatten(0, 1), effort=6)
        about["logits"][f"{scale:g}"] = {"grid": list(view.logits.shape[-2:]), "deepest": deepest}
    return about


def thinned(views: Mapping[float, View], size: Sequence[int]) -> dict[float, View]:
    """Views as they are stored; see ``write_image``."""
    return {
        scale: at_size(view, [-(-side // 4) for side in view.logits.shape[-2:]])
        if view.logits.shape[-2:] == scaled_size(size, scale)
        else view
        for scale, view in views.items()
    }


def are_few(views: Mapping[float, View], size: Sequence[int]) -> bool:
    """Whether the logits of an image take so little that a page may well hold them."""
    return sum(view.logits[0].numel() for view in thinned(views, size).values()) <= FEW_LOGITS


def encode_logits(logits: Tensor) -> tuple[Tensor, float]:
    """Logits (C, h, w) as bytes: how far each lies below its pixel's best.

    By the square root, so that those near the best are stored finest. What is the same for all classes of a pixel
    changes no class of any fusion.

    Returns:
        (C, h, w) uint8 and the depth D that 255 stands for: a value v stands for D * (v / 255)**2.
    """
    below = (logits.amax(0, keepdim=True) - logits).float().clamp_max(DEEPEST)
    deepest = max(float(below.max()), 1e-6)
    return ((below / deepest).sqrt() * 255).round().byte(), deepest


def write_thumbnail(path: Path, image: Array, classes: Tensor, labels: Tensor) -> None:
    """Write a small picture of an image with its wrong pixels in red."""
    # Of a large image every k-th pixel is enough for a picture of its errors.
    factor = max(1, max(labels.shape) // (2 * THUMBNAIL))
    small = np.asarray(Image.fromarray(image).reduce(factor))
    guess, truth = (x[::factor, ::factor].cpu().numpy() for x in (classes, labels))
    shown = small.copy()
    wrong = (guess != truth) & (truth != IGNORE)
    shown[wrong] = 0.35 * small[wrong] + 0.65 * np.asarray(error_map(small, guess, truth))[wrong]
    picture = Image.fromarray(shown)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    with write_atomically(path) as temporary:
        picture.save(temporary, "JPEG", quality=72, optimize=True)


def remove(folder: Path) -> None:
    """Remove an image's files."""
    shutil.rmtree(folder, ignore_errors=True)


def _shrunk(values: Tensor, factor: int) -> Tensor:
    """Means over squares of ``factor`` pixels, as bytes 0 to 255."""
    values = values.float()
    if factor > 1:
        values = functional.avg_pool2d(values[None, None], factor, ceil_mode=True, count_include_pad=False)[0, 0]
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _save(path: Path, values: Tensor, effort: int = 1) -> None:
    """Write a grey picture; little ``effort`` is enough for those that a report packs once more."""
    with write_atomically(path) as temporary:
        Image.fromarray(values.cpu().numpy()).save(temporary, "PNG", compress_level=effort)
