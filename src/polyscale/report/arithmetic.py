"""Sums and ratios of stored counts. Nothing here looks at an image or a prediction.

Shapes: I images, R rows (ways of combining scales), C classes, B confidence bins.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from polyscale.intervals import Marginals

__all__ = [
    "Calibrated",
    "calibration_error",
    "coverage_precision",
    "marginals",
    "off_diagonal",
    "reliability",
    "temperature",
]

Array = np.ndarray[Any, Any]


def marginals(counts: Mapping[str, Array], num_rows: int, num_classes: int) -> Marginals:
    """Right, true and predicted pixels from the stored entries of the confusion matrices."""
    starts, entries, values = (counts[f"confusion_{name}"] for name in ("starts", "entries", "counts"))
    images = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    row, pair = np.divmod(entries, num_classes * num_classes)
    true, predicted = np.divmod(pair, num_classes)
    shape = (len(starts) - 1, num_rows, num_classes)

    def total(classes: Array, some: Any = slice(None)) -> Array:
        place = np.ravel_multi_index((images[some], row[some], classes[some]), shape)
        sums = np.bincount(place, weights=values[some], minlength=int(np.prod(shape)))
        return np.asarray(np.rint(sums).astype(np.int64).reshape(shape))

    return Marginals(total(true, true == predicted), total(true), total(predicted))


class Reliability(NamedTuple):
    """Bins of one row that hold pixels."""

    pixels: Array
    confidence: Array
    accuracy: Array
    error: float | None
    """Expected calibration error, a fraction."""


def calibration_error(bins: Array, fixed_point: int) -> float | None:
    """Expected calibration error of (3, B) counts: pixels, right ones, and summed confidence times ``fixed_point``."""
    pixels = int(bins[0].sum())
    gaps = [abs(int(right) * fixed_point - int(total)) for right, total in zip(bins[1], bins[2], strict=True)]
    return sum(gaps) / (pixels * fixed_point) if pixels else None


def reliability(bins: Array, fixed_point: int) -> Reliability:
    """Points of a reliability diagram from (3, B) counts."""
    full = bins[0] > 0
    pixels, right, total = (row[full].astype(float) for row in bins)
    return Reliability(pixels, total / (pixels * fixed_point), right / pixels, calibration_error(bins, fixed_point))


class Calibrated(NamedTuple):
    """What one temperature for all logits does to the calibration error of the network's own result."""

    temperature: float
    """The best for all images."""
    before: float
    after: float
    """Each half of the images measured with the temperature that the other half chose."""


def temperature(counts: Mapping[str, Array], temperatures: list[float], fixed_point: int) -> Calibrated | None:
    """Temperature scaling from the counts of both halves of the images; None where there are too few."""
    bins, loss = counts["temperature"], counts["log_loss"]
    if not (bins[:, 0, 0].sum(-1) > 0).all():
        return None
    chosen = loss.argmin(1)
    crossed = bins[0, chosen[1]] + bins[1, chosen[0]]
    plain = bins[:, temperatures.index(1.0)].sum(0)
    before, after = calibration_error(plain, fixed_point), calibration_error(crossed, fixed_point)
    assert before is not None
    assert after is not None
    return Calibrated(temperatures[int(loss.sum(0).argmin())], before, after)


class Coverage(NamedTuple):
    """For each threshold of confidence: the share of pixels kept, and how many of them are right."""

    threshold: Array
    coverage: Array
    precision: Array


def coverage_precision(levels: Array) -> Coverage:
    """From pixels by confidence level and right or wrong, (K, 2): keep those at or above each level that holds any."""
    kept = levels[::-1].cumsum(0)[::-1]
    pixels = kept.sum(1)
    full = levels.sum(1) > 0
    steps = np.arange(len(levels)) / len(levels)
    total = max(1, int(pixels[0]))
    return Coverage(steps[full], pixels[full] / total, kept[full, 1] / pixels[full])


def off_diagonal(matrix: Array, most: int) -> list[tuple[int, int, int, float]]:
    """The largest mistakes of a confusion matrix: true class, predicted class, pixels, share of the true pixels."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    true = matrix.sum(1)
    order = np.argsort(wrong, axis=None)[::-1][:most]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    return [(t, p, int(wrong[t, p]), float(wrong[t, p] / true[t])) for t, p in pairs if wrong[t, p] > 0]
