"""Mean IoU of sets of images, and how far a difference varies over other draws of the same images.

Shapes: I images, R rows (ways of predicting them), C classes.
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Interval", "Marginals", "bootstrap", "class_iou", "difference", "interval", "mean_iou", "of_confusion"]

Array = np.ndarray[Any, Any]

NUM_RESAMPLES = 1000


class Marginals(NamedTuple):
    """Of each image, row and class: pixels that are right, truly so, predicted so; each (I, R, C) or (..., C)."""

    right: Array
    true: Array
    predicted: Array


def of_confusion(table: Array) -> Marginals:
    """From confusion matrices (..., C, C), rows truth."""
    return Marginals(np.diagonal(table, axis1=-2, axis2=-1), table.sum(-1), table.sum(-2))


def class_iou(found: Marginals) -> Array:
    """IoU of each class, NaN where it is in neither truth nor prediction; the shape of ``found``'s arrays."""
    union = found.true + found.predicted - found.right
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(union > 0, found.right / union, np.nan))


def mean_iou(found: Marginals) -> Array:
    """Mean over the classes that are in truth or prediction; NaN where there are none."""
    iou = class_iou(found)
    known = ~np.isnan(iou)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, iou, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan))


class Interval(NamedTuple):
    """A difference and the range that 95 % of the resampled data sets give."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    @property
    def level(self) -> bool:
        """Whether the range holds 0: the data do not say which is better."""
        return self.low <= 0 <= self.high


def bootstrap(found: Marginals, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Array:
    """MIoU of each row on data sets drawn anew from the images, with replacement, (num_resamples, R).

    The draws depend on ``seed`` and the number of images alone, so that two evaluations of the same images are drawn
    alike and can be compared image by image.
    """
    num_images = len(found.right)
    if num_images == 0:
        return np.full((num_resamples, found.right.shape[1]), np.nan)
    rng = np.random.default_rng([seed, num_images])
    shape = found.right.shape[1:]
    flat = [array.reshape(num_images, -1).astype(np.float64) for array in found]
    results = []
    for _ in range(0, num_resamples, 100):
        times = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=100).astype(np.float64)
        results.append(mean_iou(Marginals(*((times @ array).reshape(100, *shape) for array in flat))))
    return np.concatenate(results)[:num_resamples]


def interval(value: float, draws: Array) -> Interval:
    """The 95 % range of ``draws`` around ``value``."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def difference(first: Array, second: Array) -> Interval:
    """The mIoU of ``first`` less that of ``second``.

    Args:
        first: (I, C, C) confusion matrix of each of I images.
        second: the same images, predicted another way.

    Raises:
        ValueError: other shapes, or no image.
    """
    if first.shape != second.shape or first.ndim != 3 or not len(first):
        raise ValueError(f"two sets of confusion matrices (I, C, C) are needed, got {first.shape} and {second.shape}")
    both = np.stack([first, second], axis=1)
    values, draws = mean_iou(of_confusion(both.sum(0))), bootstrap(of_confusion(both))
    return interval(float(values[0] - values[1]), draws[:, 0] - draws[:, 1])
