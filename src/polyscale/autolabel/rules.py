"""From the teacher's classes and confidence to labels: coarse labels, frame, dropped classes, thresholds, regions.

Unusual here: what does not depend on a threshold comes first and gives *candidates*, the labels that would result if
every threshold were 0. Thresholding again needs these and the confidence, but neither the teacher nor the coarse
labels. A pixel whose label comes from the coarse label is *certain*: no threshold drops it.
"""

from typing import Any, NamedTuple

import numpy as np

from polyscale.autolabel.regions import small_regions
from polyscale.autolabel.settings import COARSE_MODES, AutolabelConfig
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["Candidates", "Rules", "apply_thresholds", "rules_of"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_KEEP, _GAPS, _VETO, _AGREE, _ONLY = range(len(COARSE_MODES))


class Candidates(NamedTuple):
    """Labels before thresholds."""

    labels: Array
    """(H, W) train ids or ``IGNORE``."""
    certain: Mask | None
    """(H, W), where the label comes from the coarse label; None without coarse labels."""


class Rules(NamedTuple):
    """The rules that need no threshold, as tables over train ids."""

    dropped: Array
    """(256,): the train id itself, or ``IGNORE`` where its class is dropped."""
    modes: Array
    """(256,): position in ``COARSE_MODES`` of the class's mode."""
    frame: Mask | None
    """(H, W): the pixels that may be labelled; None for all."""

    def candidates(self, classes: Array, coarse: Array | None) -> Candidates:
        """Candidates from the teacher's classes (H, W) and coarse labels (H, W), both train ids of one label space."""
        taught = self.dropped[classes]
        certain = None
        if coarse is None:
            labels = taught
        else:
            labelled = coarse != IGNORE
            given, own = self.modes[coarse], self.modes[taught]
            coarse = self.dropped[coarse]  # known not to be another class, so no gap for the teacher
            certain = (coarse != IGNORE) & ((given == _KEEP) | (given == _ONLY))
            agreed = labelled & (taught == coarse) & ((given == _VETO) | (given == _AGREE))
            filled = ~labelled & (own != _AGREE) & (own != _ONLY)
            labels = np.where(certain, coarse, np.where(agreed | filled, taught, np.uint8(IGNORE)))
        if self.frame is not None:
            labels = np.where(self.frame, labels, np.uint8(IGNORE))
            certain = None if certain is None else certain & self.frame
        return Candidates(labels, certain)


def rules_of(config: AutolabelConfig, space: LabelSpace, frame: Mask | None = None) -> Rules:
    """The rules that settings mean for a label space."""
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
    """The labels: candidates whose confidence is at least their class's threshold, without small regions.

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
