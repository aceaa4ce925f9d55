"""Thresholds chosen by class such that a given share of the teacher's pixels is kept.

Unusual here: confidence is counted in bins of equal *ratio* of 1 - p, because a teacher is sure of most pixels: shares
are decided between 0.99 and 0.9999, where bins of equal width would hold everything in one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from polyscale.autolabel.rules import Candidates
from polyscale.autolabel.settings import AutolabelConfig
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["NUM_BINS", "choose_thresholds", "histogram", "table"]

_PER_HALVING = 64
NUM_BINS = 24 * _PER_HALVING + 1
"""float32 knows no probability between 1 - 2**-24 and 1, which has the last bin to itself."""

Counts = np.ndarray[Any, np.dtype[np.int64]]


def histogram(candidates: Candidates, confidence: np.ndarray[Any, Any], num_classes: int) -> Counts:
    """Pixels by candidate class and bin of confidence, (C, NUM_BINS); those that the coarse label decides are left out.

    Args:
        candidates: of one image.
        confidence: (H, W) float32 in [0, 1].
        num_classes: C.
    """
    counted = candidates.labels != IGNORE
    if candidates.certain is not None:
        counted &= ~candidates.certain
    with np.errstate(divide="ignore"):
        position = np.floor(-_PER_HALVING * np.log2(1 - confidence[counted].astype(np.float64)))
    bins = np.clip(position, 0, NUM_BINS - 1).astype(np.int64)
    flat = candidates.labels[counted].astype(np.int64) * NUM_BINS + bins
    return np.bincount(flat, minlength=num_classes * NUM_BINS).reshape(num_classes, NUM_BINS)


def choose_thresholds(counts: Counts | None, config: AutolabelConfig, space: LabelSpace) -> dict[str, float]:
    """The threshold of each class, by name: the given one, or the one whose share kept is nearest to the share asked.

    Args:
        counts: (C, NUM_BINS), over the images that count; None where no threshold is to be chosen.
        config: which classes have a share, and which a threshold.
        space: of the classes.
    """
    bounds = 1 - 2.0 ** (-np.arange(NUM_BINS) / _PER_HALVING)
    bounds[-1] = 1
    chosen: dict[str, float] = {}
    for train_id, name in enumerate(space.names):
        chosen[name] = config.class_thresholds.get(name, config.threshold)
        share = config.class_keep.get(name, None if name in config.class_thresholds else config.keep)
        if share is None or counts is None or not counts[train_id].any():
            continue
        kept = np.cumsum(counts[train_id][::-1])[::-1] / counts[train_id].sum()
        chosen[name] = round(float(bounds[int(np.argmin(np.abs(kept - share)))]), 9)
    return chosen


def table(thresholds: Mapping[str, float], space: LabelSpace) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Thresholds by train id, (256,) float32."""
    values = np.ones(256, dtype=np.float32)
    values[: space.num_classes] = [thresholds[name] for name in space.names]
    values[IGNORE] = 0
    return values
