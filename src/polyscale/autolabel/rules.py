"""Turns the teacher's classes and confidence into labels.

First come the rules that need no threshold: coarse labels, frame, dropped classes. They give *candidates*, the labels
if every threshold were 0. Then come thresholds and small regions. So candidates and confidence are enough to apply
other thresholds later. A pixel whose label is a coarse label is *certain*: no threshold drops it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from polyscale.autolabel.regions import small_regions
from polyscale.autolabel.settings import COARSE_MODES, AutolabelConfig
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["NUM_BINS", "Candidates", "Rules", "apply_thresholds", "choose_thresholds", "histogram", "rules_of", "table"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_KEEP, _GAPS, _VETO, _AGREE, _ONLY = range(len(COARSE_MODES))

_PER_HALVING = 64
NUM_BINS = 24 * _PER_HALVING + 1
"""float32 has no number between 1 - 2**-24 and 1; probability 1 has the last bin."""


class Candidates(NamedTuple):
    """Labels before thresholds."""

    labels: Array
    """(H, W) train ids or ``IGNORE``."""
    certain: Mask | None
    """(H, W), where the label is a coarse label; None without coarse labels."""


class Rules(NamedTuple):
    """The rules that need no threshold, as tables by train id."""

    dropped: Array
    """(256,): the train id itself, or ``IGNORE`` where its class is dropped."""
    modes: Array
    """(256,): the class's mode as an index into ``COARSE_MODES``."""
    frame: Mask | None
    """(H, W): the pixels that may be labelled; None for all."""

    def candidates(self, classes: Array, coarse: Array | None) -> Candidates:
        """Candidates of an image.

        Args:
            classes: of the teacher, (H, W) train ids.
            coarse: the coarse label, (H, W) train ids of the same label space, or None.
        """
        taught = self.dropped[classes]
        certain = None
        if coarse is None:
            labels = taught
        else:
            labelled = coarse != IGNORE
            given, own = self.modes[coarse], self.modes[taught]
            coarse = self.dropped[coarse]  # known to be of no other class, so the teacher must not fill it
            certain = (coarse != IGNORE) & ((given == _KEEP) | (given == _ONLY))
            agreed = labelled & (taught == coarse) & ((given == _VETO) | (given == _AGREE))
            filled = ~labelled & (own != _AGREE) & (own != _ONLY)
            labels = np.where(certain, coarse, np.where(agreed | filled, taught, np.uint8(IGNORE)))
        if self.frame is not None:
            labels = np.where(self.frame, labels, np.uint8(IGNORE))
            certain = None if certain is None else certain & self.frame
        return Candidates(labels, certain)


def rules_of(config: AutolabelConfig, space: LabelSpace, frame: Mask | None = None) -> Rules:
    """The rules of these settings for a label space."""
    dropped = np.arange(256, dtype=np.uint8)
    modes = np.full(256, COARSE_MODES.index(config.coarse), dtype=np.uint8)
    for train_id, name in enumerate(space.names):
        if name in config.drop:
            dropped[train_id] = IGNORE
        modes[train_id] = COARSE_MODES.index(config.class_coarse.get(name, config.coarse))
    return Rules(dropped, modes, frame)


def apply_thresholds(
    candidates: Candidates,
    confidence: np.ndarray[Any, Any],
    thresholds: np.ndarray[Any, Any],
    min_region: int = 0,
) -> Array:
    """The labels: candidates whose confidence reaches their class's threshold, without small regions.

    Args:
        candidates: of one image.
        confidence: (H, W), of any ordered type.
        thresholds: (256,) by train id, of the same type.
        min_region: connected regions of fewer pixels are ignored.

    Returns:
        (H, W) uint8 train ids or ``IGNORE``.
    """
    labels, certain = candidates
    kept = confidence >= thresholds[labels]
    if certain is not None:
        kept |= certain
    result = np.where(kept, labels, np.uint8(IGNORE))
    if min_region > 1:
        result[small_regions(result, min_region, certain)] = IGNORE
    return result


def table(thresholds: Mapping[str, float], space: LabelSpace) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Thresholds by train id, (256,) float32."""
    values = np.ones(256, dtype=np.float32)
    values[: space.num_classes] = [thresholds[name] for name in space.names]
    values[IGNORE] = 0
    return values


def histogram(candidates: Candidates, confidence: np.ndarray[Any, Any], num_classes: int) -> Counts:
    """Pixels by candidate class and bin of confidence; ignored and certain pixels are left out.

    A teacher is sure of most pixels: bins of equal width would put them all into the last one. So a bin spans an equal
    *ratio* of 1 - confidence.

    Args:
        candidates: of one image.
        confidence: (H, W) float32 in [0, 1].
        num_classes: C.

    Returns:
        (C, NUM_BINS).
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
    """The threshold of each class by name: the given one, or the one that keeps the fraction asked for most nearly.

    Args:
        counts: (C, NUM_BINS), summed over images; None where no threshold is to be chosen.
        config: which classes have a fraction, and which a threshold.
        space: of the classes.
    """
    bounds = 1 - 2.0 ** (-np.arange(NUM_BINS) / _PER_HALVING)
    bounds[-1] = 1
    chosen: dict[str, float] = {}
    for train_id, name in enumerate(space.names):
        chosen[name] = config.class_thresholds.get(name, config.threshold)
        fraction = config.class_keep.get(name, None if name in config.class_thresholds else config.keep)
        if fraction is None or counts is None or not counts[train_id].any():
            continue
        kept = np.cumsum(counts[train_id][::-1])[::-1] / counts[train_id].sum()
        chosen[name] = round(float(bounds[int(np.argmin(np.abs(kept - fraction)))]), 9)
    return chosen
