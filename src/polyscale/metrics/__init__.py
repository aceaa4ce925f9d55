"""Scores of a segmentation, from integers summed over the whole data set.

They are exact, and the same however the images were shared out among processes.
``SegmentationScores`` is the one to use; the pure functions that it is made of are public too.
"""

from polyscale.metrics.accumulator import SegmentationScores
from polyscale.metrics.boundary import boundary_band, boundary_counts, boundary_width
from polyscale.metrics.calibration import FIXED_POINT, calibration_counts, expected_calibration_error
from polyscale.metrics.confusion import confusion_matrix, top_class
from polyscale.metrics.scores import Scores
from polyscale.metrics.thickness import BORDER_BINS, THICKNESS_BINS, border_bins, thickness_bins

__all__ = [
    "BORDER_BINS",
    "FIXED_POINT",
    "THICKNESS_BINS",
    "Scores",
    "SegmentationScores",
    "border_bins",
    "boundary_band",
    "boundary_counts",
    "boundary_width",
    "calibration_counts",
    "confusion_matrix",
    "expected_calibration_error",
    "thickness_bins",
    "top_class",
]
