"""Boundary IoU (Cheng et al. 2021, arXiv:2103.16562): the IoU of the bands along the masks' contours.

One pass finds the bands of all classes. A pixel lies within ``width`` of its own mask's contour exactly where the
square window of that radius holds more than one label, that is, where the window's minimum and maximum differ.

As in the authors' definition, distance is the larger of the row and column distance, and a mask ends at the image's
border. An ignored pixel is treated like the outside of the image, in truth and in prediction.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.labels import IGNORE
from polyscale.metrics.confusion import as_bytes

__all__ = ["boundary_band", "boundary_counts", "boundary_width", "sliding"]


def boundary_width(size: Sequence[int], fraction: float = 0.02) -> int:
    """Width of the band in pixels for an image of ``size`` (H, W): a fraction of its diagonal, at least 1."""
    return max(1, round(fraction * math.hypot(size[0], size[1])))


def boundary_band(labels: Tensor, width: int) -> Tensor:
    """Pixels within ``width`` of the contour of the mask that they belong to.

    Args:
        labels: (H, W) uint8; ``IGNORE`` counts as outside of the image.
        width: in pixels, at least 1.

    Returns:
        (H, W) bool; what it says of ignored pixels has no meaning.
    """
    padded = functional.pad(labels, (width, width, width, width), value=IGNORE)
    side = 2 * width + 1
    return sliding(padded, side, torch.maximum) != sliding(padded, side, torch.minimum)


def boundary_counts(
    prediction: Tensor, labels: Tensor, num_classes: int, fraction: float = 0.02, width: int | None = None
) -> Tensor:
    """Pixels in the intersection and in the union of predicted and true boundary band of each class of one image.

    Summed over images, row 0 divided by row 1 is the data set's boundary IoU of each class.

    Args:
        prediction: (H, W) integers 0..C-1; anything is allowed where ``labels`` is ignored.
        labels: (H, W) integers 0..C-1 or ``IGNORE``.
        num_classes: C.
        fraction: the band's width as a fraction of the image diagonal.
        width: the band's width in pixels, in place of the fraction.

    Returns:
        (2, C) int64: intersection, union.

    Raises:
        ValueError: the two are not of one shape (H, W), or not ids.
    """
    if prediction.shape != labels.shape or labels.ndim != 2:
        raise ValueError(f"prediction {tuple(prediction.shape)} and labels {tuple(labels.shape)} must both be (H, W)")
    truth = as_bytes(labels, "labels")
    guess = torch.where(truth == IGNORE, truth, as_bytes(prediction, "prediction"))
    width = boundary_width(truth.shape, fraction) if width is None else width
    true_band, guessed_band = boundary_band(truth, width), boundary_band(guess, width)

    def count(classes: Tensor, where: Tensor) -> Tensor:
        kept = torch.where(where, classes, torch.full_like(classes, IGNORE))
        return torch.bincount(kept.flatten(), minlength=256)[:num_classes]

    both = count(truth, true_band & guessed_band & (truth == guess))
    return torch.stack([both, count(truth, true_band) + count(guess, guessed_band) - both])


def sliding(x: Tensor, side: int, best: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``best`` over a sliding square of ``side`` pixels, without padding: (H, W) to (H - side + 1, W - side + 1)."""
    # Spans double, so the cost grows with the logarithm of the side.
    for dim in (-2, -1):
        span = 1
        while span < side:
            step = min(span, side - span)
            length = x.shape[dim] - step
            x = best(x.narrow(dim, 0, length), x.narrow(dim, step, length))
            span += step
    return x
