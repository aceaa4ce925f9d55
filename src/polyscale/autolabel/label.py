"""The mask of one image and its line in the manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.autolabel.folder import KINDS, Description, label_file
from polyscale.autolabel.records import Record
from polyscale.autolabel.rules import Candidates, apply_thresholds, table
from polyscale.data.masks import write_mask
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["Seen", "seen_again", "seen_classes", "write_labels"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

Seen = Mapping[str, Mapping[str, int]]
"""By class name the pixels that the teacher gives it (``predicted``); with a coarse label also those that the coarse
label gives it (``coarse``), and those that both give it (``agreed``).
"""


def seen_classes(space: LabelSpace, classes: Array, coarse: Array | None) -> Seen:
    """Labels of one image by the teacher and the coarse label, each (H, W) train ids."""
    counts = {"predicted": np.bincount(classes.ravel(), minlength=256)}
    if coarse is not None:
        counts["coarse"] = np.bincount(coarse.ravel(), minlength=256)
        counts["agreed"] = np.bincount(coarse[coarse == classes], minlength=256)
    return {
        name: {key: int(values[train_id]) for key, values in counts.items()}
        for train_id, name in enumerate(space.names)
    }


def seen_again(space: LabelSpace, record: Record) -> Seen:
    """Labels of an image by teacher and coarse label, as they were when it was labelled."""
    keys = ("predicted", "coarse", "agreed") if record.coarse is not None else ("predicted",)
    return {name: {key: getattr(record.classes.get(name), key, None) or 0 for key in keys} for name in space.names}


def write_labels(
    folder: Path,
    facts: Mapping[str, Any],
    description: Description,
    candidates: Candidates,
    confidence: np.ndarray[Any, Any],
    seen: Seen,
) -> Record:
    """Write the mask of one image; its other files, where the folder has them, are there already.

    Args:
        folder: the output folder.
        facts: values of the record that do not depend on the labels.
        description: of the folder, with its thresholds.
        candidates: labels before thresholds.
        confidence: of the teacher, (H, W) float32.
        seen: what teacher and coarse label say.

    Returns:
        The image's line in the manifest.
    """
    space, thresholds = description.label_space, description.file.thresholds
    assert thresholds is not None
    min_region = int(str(description.file.settings["min_region"]))
    labels = apply_thresholds(candidates, confidence, table(thresholds, space), min_region)
    write_mask(label_file(folder, "masks", facts["image"]), labels, space)
    classes = _classes(space, labels, candidates.certain, confidence, seen)
    sizes: dict[str, Any] = {
        KINDS[kind]: label_file(folder, kind, facts["image"]).stat().st_size for kind in description.kinds
    }
    one = len(set(thresholds.values())) == 1
    return Record(
        **facts,
        teacher=description.file.teacher.fingerprint,
        settings=description.digest,
        threshold=next(iter(thresholds.values())) if one else {name: thresholds[name] for name in classes},
        kept=round(int((labels != IGNORE).sum()) / labels.size, 6),
        classes=classes,
        **sizes,
    )


def _classes(
    space: LabelSpace, labels: Array, certain: np.ndarray[Any, Any] | None, confidence: np.ndarray[Any, Any], seen: Seen
) -> dict[str, Any]:
    """The record's part of each class that occurs; ``taught`` only where some labels are not the teacher's."""
    taught = labels != IGNORE
    if certain is not None:
        taught &= ~certain
    chosen = labels[taught]
    labelled = np.bincount(labels.ravel(), minlength=256)
    number = np.bincount(chosen, minlength=256)
    total = np.bincount(chosen, weights=confidence[taught], minlength=256)
    classes: dict[str, Any] = {}
    for train_id, name in enumerate(space.names):
        pixels, count = int(labelled[train_id]), int(number[train_id])
        if not pixels and not any(seen[name].values()):
            continue
        classes[name] = {
            "share": round(pixels / labels.size, 6),
            "confidence": round(float(total[train_id]) / count, 6) if count else None,
            "labelled": pixels,
            **seen[name],
        }
        if count != pixels:
            classes[name]["taught"] = count
    return classes
