"""Scores of a confusion matrix: the data set's, overall and by class.

A score that is not defined is None, never NaN or 0. A class that is in neither truth nor prediction has no IoU: the
means leave it out, and ``absent`` lists it. All scores are fractions in [0, 1].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polyscale.metrics.calibration import FIXED_POINT, expected_calibration_error

__all__ = ["Scores"]

Fraction = float | None


@dataclass(frozen=True)
class Scores:
    """Scores of one data set, made by ``Scores.from_counts``; per-class tuples are in the order of ``classes``."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, rows truth, columns prediction."""
    mean_iou: Fraction
    """mIoU: mean of the classes' IoU over the whole data set, without the classes in ``absent``."""
    pixel_accuracy: Fraction
    mean_accuracy: Fraction
    """Mean recall of the classes that the truth has."""
    mean_f1: Fraction
    frequency_weighted_iou: Fraction
    """IoU of each class weighted by its share of the true pixels."""
    iou: tuple[Fraction, ...]
    precision: tuple[Fraction, ...]
    """Share of the pixels predicted as the class that are right; None where none was predicted."""
    recall: tuple[Fraction, ...]
    """Share of the class's pixels that are predicted as it; None where the truth has none."""
    f1: tuple[Fraction, ...]
    pixels: tuple[int, ...]
    """True pixels of each class."""
    absent: tuple[str, ...]
    """Classes in neither truth nor prediction, which the means leave out."""
    boundary_iou: tuple[Fraction, ...] | None = None
    mean_boundary_iou: Fraction = None
    expected_calibration_error: Fraction = None
    reliability: tuple[tuple[int, Fraction, Fraction], ...] | None = None
    """For each confidence bin: pixels, mean confidence, accuracy."""

    @classmethod
    def from_counts(
        cls,
        classes: Sequence[str],
        confusion: Tensor,
        boundary: Tensor | None = None,
        calibration: Tensor | None = None,
    ) -> "Scores":
        """Scores from integer sums.

        Args:
            classes: C names.
            confusion: (C, C) int64, rows truth, columns prediction.
            boundary: (2, C) int64, intersection and union of boundary bands.
            calibration: (3, B) int64, as ``calibration_counts`` gives.

        Raises:
            ValueError: ``confusion`` is not C x C.
        """
        if tuple(confusion.shape) != (len(classes), len(classes)):
            raise ValueError(f"a confusion matrix of {len(classes)} classes is square, got {tuple(confusion.shape)}")
        matrix: list[list[int]] = confusion.tolist()
        right = [matrix[k][k] for k in range(len(classes))]
        true = [sum(row) for row in matrix]
        predicted = [sum(column) for column in zip(*matrix, strict=True)]
        total = sum(true)
        # Python's integers: the union cannot overflow, and the only rounding is that of the division.
        iou = tuple(_ratio(r, t + p - r) for r, t, p in zip(right, true, predicted, strict=True))
        recall = tuple(map(_ratio, right, true))
        f1 = tuple(_ratio(2 * r, t + p) for r, t, p in zip(right, true, predicted, strict=True))
        bands = tuple(map(_ratio, *boundary.tolist())) if boundary is not None else None
        weighted = sum(share * t for share, t in zip(iou, true, strict=True) if share is not None)
        return cls(
            classes=tuple(classes),
            confusion=tuple(map(tuple, matrix)),
            mean_iou=_mean(iou),
            pixel_accuracy=_ratio(sum(right), total),
            mean_accuracy=_mean(recall),
            mean_f1=_mean(f1),
            frequency_weighted_iou=weighted / total if total else None,
            iou=iou,
            precision=tuple(map(_ratio, right, predicted)),
            recall=recall,
            f1=f1,
            pixels=tuple(true),
            absent=tuple(name for name, value in zip(classes, iou, strict=True) if value is None),
            boundary_iou=bands,
            mean_boundary_iou=_mean(bands) if bands is not None else None,
            expected_calibration_error=expected_calibration_error(calibration) if calibration is not None else None,
            reliability=_reliability(calibration) if calibration is not None else None,
        )

    @property
    def num_pixels(self) -> int:
        """Pixels that were scored; ignored ones are not."""
        return sum(self.pixels)

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """Class name -> pixels and its own scores, fractions in [0, 1]."""
        table: dict[str, dict[str, float | int | None]] = {}
        for k, name in enumerate(self.classes):
            table[name] = {
                "pixels": self.pixels[k],
                "iou": self.iou[k],
                "precision": self.precision[k],
                "recall": self.recall[k],
                "f1": self.f1[k],
                "boundary_iou": self.boundary_iou[k] if self.boundary_iou is not None else None,
            }
        return table

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON: fractions in [0, 1], None for what is not defined or was not measured."""
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "mean_f1": self.mean_f1,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "mean_boundary_iou": self.mean_boundary_iou,
            "expected_calibration_error": self.expected_calibration_error,
            "num_pixels": self.num_pixels,
            "absent": list(self.absent),
            "per_class": self.per_class(),
            "confusion": [list(row) for row in self.confusion],
            "reliability": None
            if self.reliability is None
            else [dict(zip(("pixels", "confidence", "accuracy"), row, strict=True)) for row in self.reliability],
        }


def _ratio(part: int, whole: int) -> Fraction:
    return part / whole if whole else None


def _mean(values: Iterable[Fraction]) -> Fraction:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _reliability(counts: Tensor) -> tuple[tuple[int, Fraction, Fraction], ...]:
    rows = zip(*counts.tolist(), strict=True)
    return tuple((pixels, _ratio(total, pixels * FIXED_POINT), _ratio(right, pixels)) for pixels, right, total in rows)
