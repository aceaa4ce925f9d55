"""The images that a report shows in full: which ones, and their files.

All values are pictures of 8 bits: class ids, weights and confidences as grey levels, the photograph as JPEG. Which
images are the worst is known at the end only, so an image is written when it is among the worst so far, and removed
when others turn out worse.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polyscale.data.png import write_index_png
from polyscale.evaluation.counts import Seen, sampled
from polyscale.files import write_atomically
from polyscale.labels import IGNORE
from polyscale.pictures import error_map
from polyscale.scales import scaled_size
from polyscale.views import View, resize

__all__ = ["Gallery", "are_few", "encode_logits", "write_image", "write_thumbnail"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

THUMBNAIL = 192
"""Longer side of a thumbnail in pixels."""

FEW_LOGITS = 2_000_000
"""Of an image in all views: at 11 classes and scales up to 2, about 850 x 650 pixels."""

DEEPEST = 24.0
"""Logits further below the best than this are stored as if they were no further."""

TRUST_LEVELS = 127
"""Of attention: finer ones take a quarter more bytes and change hardly a pixel's class."""


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
        views: scale -> view on its own grid; their logits and attention are stored as well. Maps at the size of what
            the network was shown are thinned to every fourth pixel: those are enlarged from about such a grid.

    Returns:
        What a reader must know of them: how large the maps are, and of the logits grid and range.
    """
    height, width = image.shape[:2]
    about: dict[str, Any] = {"logits": {}}
    with write_atomically(folder / "photo.jpg") as temporary:
        Image.fromarray(image).save(temporary, "JPEG", quality=92, subsampling=0)
    if labels is not None:
        write_index_png(folder / "truth.png", labels.cpu().numpy(), None)
    for name, (classes, confidence) in seen.items():
        write_index_png(folder / f"{name}.png", classes.cpu().numpy(), None)
        if confidence is not None:
            kept = sampled(confidence) if confidence.shape == classes.shape else confidence
            _save(folder / f"confidence-{name}.png", kept)
    for scale, weight in (weights or {}).items():
        _save(folder / f"weight-{scale:g}.png", sampled(weight[0, 0]))
    shown = thinned(views or {}, (height, width))
    several = any(view.attention is not None and view.attention.shape[1] > 1 for view in shown.values())
    for scale, view in shown.items():
        codes, deepest = encode_logits(view.logits[0])
        write_index_png(folder / f"logits-{scale:g}.png", _stacked(codes), None)
        known: dict[str, Any] = {"grid": list(view.logits.shape[-2:]), "deepest": deepest}
        if view.attention is not None:
            levels = (view.attention[0].float() * TRUST_LEVELS).round() / TRUST_LEVELS
            write_index_png(folder / f"attention-{scale:g}.png", _stacked((levels * 255).round().byte()), None)
            known["attention"] = list(view.attention.shape[1:])
        if several:
            # Where each class has its own weight, what is the same for all classes of a pixel counts too.
            best = view.logits[0].float().amax(0, keepdim=True)
            low, spread = float(best.min()), max(float(best.max() - best.min()), 1e-6)
            write_index_png(
                folder / f"best-{scale:g}.png", _stacked(((best - low) / spread * 255).round().byte()), None
            )
            known["best"] = [low, spread]
        about["logits"][f"{scale:g}"] = known
    return about


def thinned(views: Mapping[float, View], size: Sequence[int]) -> dict[float, View]:
    """Views as they are stored; see ``write_image``."""

    def thin(x: Tensor | None, full: Sequence[int]) -> Tensor | None:
        return resize(x, [-(-side // 4) for side in full]) if x is not None and x.shape[-2:] == full else x

    def both(view: View, full: Sequence[int]) -> View:
        return View(cast(Tensor, thin(view.logits, full)), thin(view.attention, full))

    return {scale: both(view, scaled_size(size, scale)) for scale, view in views.items()}


def are_few(views: Mapping[float, View], size: Sequence[int]) -> bool:
    """Whether the logits of an image take so little that a page may well hold them."""
    return sum(view.logits[0].numel() for view in thinned(views, size).values()) <= FEW_LOGITS


def encode_logits(logits: Tensor) -> tuple[Tensor, float]:
    """Logits (C, h, w) as bytes: how far each lies below its pixel's best.

    Exponentially: those near the best are stored finest, and the many that are hopeless as the same, in few bytes.

    Returns:
        (C, h, w) uint8 and the depth D that 0 stands for; another value v stands for D / 5 * log(255 / v).
    """
    below = (logits.amax(0, keepdim=True) - logits).float().clamp_max(DEEPEST)
    deepest = max(float(below.max()), 1e-6)
    return ((below * (-5 / deepest)).exp() * 255).round().byte(), deepest


def write_thumbnail(path: Path, image: Array, classes: Tensor, labels: Tensor) -> None:
    """Write a small picture of an image with its wrong pixels in red."""
    # Every k-th pixel is enough for a small picture of the errors.
    factor = max(1, max(labels.shape) // THUMBNAIL)
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


def _stacked(maps: Tensor) -> Array:
    """Maps (K, h, w) below each other, (K * h, w)."""
    return maps.flatten(0, 1).cpu().numpy()


def _save(path: Path, values: Tensor) -> None:
    """Write a grey picture of values in [0, 1] quickly: a report packs it once more."""
    levels = (values.float().clamp(0, 1) * 255).round().to(torch.uint8)
    with write_atomically(path) as temporary:
        Image.fromarray(levels.cpu().numpy()).save(temporary, "PNG", compress_level=1)
