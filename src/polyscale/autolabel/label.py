"""One image: from what the teacher says to its files and its line in the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polyscale.autolabel.confidence import encode_certain, encode_confidence, encode_labels, to_levels
from polyscale.autolabel.folder import Description, label_file, label_files
from polyscale.autolabel.records import Stamp
from polyscale.autolabel.rules import Candidates, apply_thresholds
from polyscale.autolabel.thresholds import table
from polyscale.data.confidence import stride_of
from polyscale.data.masks import write_mask
from polyscale.files import write_atomically
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["Facts", "class_lines", "write_labels", "write_stored"]

Array = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Facts:
    """What a manifest's line says of an image beside its labels."""

    name: str
    file: str
    """Path of the image below the folder that names are relative to."""
    image: Stamp
    coarse: Stamp | None


def write_labels(
    folder: Path,
    facts: Facts,
    description: Description,
    candidates: Candidates,
    confidence: np.ndarray[Any, Any],
    classes: Array,
    coarse: Array | None,
) -> dict[str, Any]:
    """Write the mask (and, where the folder has them, candidates and confidence map) of one image.

    Args:
        folder: the output folder.
        facts: of the image.
        description: of the folder, with its thresholds.
        candidates: labels before thresholds.
        confidence: of the teacher, (H, W) float32.
        classes: of the teacher, (H, W) train ids.
        coarse: the coarse label, (H, W) train ids of the same label space, or None.

    Returns:
        The image's line in the manifest.
    """
    space = description.label_space
    if description.levels:
        stride = stride_of(description.stride, *candidates.labels.shape)
        stored = to_levels(candidates, confidence, description.levels, stride)
        _write(label_file(folder, "candidates", facts.name), candidates.labels, space)
        with write_atomically(label_file(folder, "confidence", facts.name)) as temporary:
            temporary.write_bytes(encode_confidence(stored, len(description.levels)))
        if "certain" in description.kinds:
            with write_atomically(label_file(folder, "certain", facts.name)) as temporary:
                temporary.write_bytes(encode_certain(candidates))
    labels, counted = write_mask_of(folder, facts.name, description, candidates, confidence)
    extra = {"predicted": np.bincount(classes.ravel(), minlength=256)}
    if coarse is not None:
        extra["coarse"] = np.bincount(coarse.ravel(), minlength=256)
        extra["agreed"] = np.bincount(coarse[coarse == classes], minlength=256)
    line: dict[str, Any] = {
        "image": facts.name,
        "file": facts.file,
        "bytes": facts.image.bytes,
        "modified": facts.image.modified,
        "sha256": facts.image.sha256,
        "height": labels.shape[0],
        "width": labels.shape[1],
    }
    if facts.coarse is not None:
        line["coarse"] = facts.coarse._asdict()
    return line | _outcome(folder, facts.name, description, counted, extra, labels.size)


def write_stored(
    folder: Path,
    line: Mapping[str, Any],
    description: Description,
    candidates: Candidates,
    confidence: np.ndarray[Any, Any],
) -> dict[str, Any]:
    """Write only the mask of an image that was labelled before, by other thresholds.

    Args:
        folder: the output folder.
        line: its line in the manifest so far.
        description: of the folder, with the new thresholds.
        candidates: as stored.
        confidence: as stored, (H, W) float32.

    Returns:
        The new line.
    """
    space = description.label_space
    labels, counted = write_mask_of(folder, line["image"], description, candidates, confidence)
    extra: dict[str, Any] = {key: np.zeros(256, dtype=np.int64) for key in ("predicted", "coarse", "agreed")}
    for train_id, name in enumerate(space.names):
        for key, values in extra.items():
            values[train_id] = line["classes"].get(name, {}).get(key, 0)
    if "coarse" not in line:
        extra = {"predicted": extra["predicted"]}
    same = {key: line[key] for key in line if key in _OF_THE_IMAGE}
    return same | _outcome(folder, line["image"], description, counted, extra, labels.size)


_OF_THE_IMAGE = ("image", "file", "bytes", "modified", "sha256", "height", "width", "coarse")


class Counted(NamedTuple):
    """Of one mask, by train id."""

    labelled: np.ndarray[Any, np.dtype[np.int64]]
    taught: np.ndarray[Any, np.dtype[np.int64]]
    """Labelled pixels whose label is the teacher's and not the coarse label's."""
    confidence: np.ndarray[Any, np.dtype[np.float64]]
    """Mean over these; NaN without any."""


def write_mask_of(
    folder: Path, name: str, description: Description, candidates: Candidates, confidence: np.ndarray[Any, Any]
) -> tuple[Array, Counted]:
    """Write the mask by the description's thresholds; its labels, and by train id what was counted."""
    assert description.thresholds is not None
    thresholds = table(description.thresholds, description.label_space)
    labels = apply_thresholds(candidates, confidence, thresholds, int(description.settings["min_region"]))
    _write(label_file(folder, "masks", name), labels, description.label_space)
    taught = labels != IGNORE
    if candidates.certain is not None:
        taught &= ~candidates.certain
    chosen = labels[taught]
    number = np.bincount(chosen, minlength=256)
    total = np.bincount(chosen, weights=confidence[taught], minlength=256)
    mean = np.divide(total, number, out=np.full(256, np.nan), where=number > 0)
    return labels, Counted(np.bincount(labels.ravel(), minlength=256), number, mean)


def class_lines(
    space: LabelSpace, counted: Counted, extra: Mapping[str, np.ndarray[Any, Any]], num_pixels: int
) -> dict[str, dict[str, Any]]:
    """What the manifest says of each class that is present; ``taught`` where not all labels are the teacher's."""
    labelled, taught, mean = counted
    lines = {}
    for train_id, name in enumerate(space.names):
        numbers = {key: int(values[train_id]) for key, values in extra.items()}
        if not labelled[train_id] and not any(numbers.values()):
            continue
        lines[name] = {
            "share": round(int(labelled[train_id]) / num_pixels, 6),
            "confidence": None if np.isnan(mean[train_id]) else round(float(mean[train_id]), 6),
            "labelled": int(labelled[train_id]),
            **numbers,
        }
        if taught[train_id] != labelled[train_id]:
            lines[name]["taught"] = int(taught[train_id])
    return lines


def _outcome(
    folder: Path,
    name: str,
    description: Description,
    counted: Counted,
    extra: Mapping[str, np.ndarray[Any, Any]],
    num_pixels: int,
) -> dict[str, Any]:
    classes = class_lines(description.label_space, counted, extra, num_pixels)
    thresholds = description.thresholds or {}
    threshold: Any = {name: thresholds[name] for name in classes}
    if len(set(thresholds.values())) == 1:
        threshold = next(iter(thresholds.values()))
    kept = int(counted.labelled[: description.label_space.num_classes].sum())
    return {
        "teacher": description.teacher,
        "settings": description.digest,
        "threshold": threshold,
        "kept": round(kept / num_pixels, 6),
        "classes": classes,
        **{key: path.stat().st_size for key, path in label_files(folder, name, description.kinds)},
    }


def _write(path: Path, labels: Array, space: LabelSpace) -> None:
    data = encode_labels(labels, space)
    if data is None:
        write_mask(path, labels, space)
        return
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
