"""Confidence maps: quantised when written, read back as numbers; and the pictures of labels beside them.

Unusual here: a stored value is a *level*, the index of its lower bound in ``confidence_levels`` of ``autolabel.json``,
so a value that is read is never above the true one. Each covers a square of pixels whose lowest confidence it is.
Pixels that the coarse label decides have a picture of their own, for they may be thinner than a square; their level is
the last, 1. Confidence 0 is where nothing can be labelled.
"""

from pathlib import Path
from typing import Any

import numpy as np

from polyscale.autolabel.folder import Description, label_file, read_description
from polyscale.autolabel.png import encode_index_png
from polyscale.autolabel.rules import Candidates
from polyscale.data.confidence import stride_of
from polyscale.data.items import DataError
from polyscale.data.masks import read_mask
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace

__all__ = [
    "encode_certain",
    "encode_confidence",
    "encode_labels",
    "read_candidates",
    "read_confidence",
    "read_stored",
    "to_levels",
]

Array = np.ndarray[Any, np.dtype[np.uint8]]


def to_levels(
    candidates: Candidates, confidence: np.ndarray[Any, Any], levels: tuple[float, ...], stride: int
) -> Array:
    """Quantise confidence (H, W).

    Args:
        candidates: of the same image.
        confidence: of the teacher, (H, W) float32 in [0, 1].
        levels: as ``AutolabelConfig.stored_levels``; the last one is never the teacher's.
        stride: of the squares.

    Returns:
        (ceil(H / stride), ceil(W / stride)) uint8 indices into ``levels``.
    """
    found = np.zeros(confidence.shape, dtype=np.uint8)
    for bound in np.array(levels[1:-1], dtype=np.float32):
        found += confidence >= bound
    top = len(levels) - 1
    if candidates.certain is not None:
        found[candidates.certain] = top
    # Ignored pixels must not lower the square that they share with others, and count as 0 where they are alone in it.
    found[candidates.labels == IGNORE] = IGNORE
    if stride > 1:
        height, width = found.shape
        padded = np.pad(found, ((0, -height % stride), (0, -width % stride)), constant_values=IGNORE)
        rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
        found = padded.reshape(rows, stride, columns, stride).min(axis=(1, 3))
    found[found == IGNORE] = 0
    return found


def encode_confidence(stored: Array, num_levels: int) -> bytes:
    """A picture of levels as PNG: grey, the lighter the surer, and blue for the coarse label's."""
    bits = 4 if num_levels <= 16 else 8
    grey = np.linspace(0, 255, num_levels).round().astype(np.uint8)
    palette = np.stack([grey, grey, grey], axis=1)
    palette[-1] = (60, 120, 255)
    return encode_index_png(stored, palette, bits)


def encode_certain(candidates: Candidates) -> bytes:
    """A picture of where the label is the coarse label's (1), as PNG."""
    labels, certain = candidates
    found = np.zeros(labels.shape, dtype=np.uint8) if certain is None else certain.astype(np.uint8)
    return encode_index_png(found, np.array([(0, 0, 0), (60, 120, 255)], dtype=np.uint8), 4)


def encode_labels(labels: Array, space: LabelSpace) -> bytes | None:
    """A mask of data set ids as palette PNG; None where an id is above 255, which a palette cannot hold."""
    ids = space.decode(labels)
    if ids.dtype != np.uint8:
        return None
    palette = np.zeros((int(ids.max()) + 1, 3), dtype=np.uint8)  # no longer than needed: a large part of a small file
    for item in space.classes:
        palette[[number for number in item.ids if number < len(palette)]] = item.color
    return encode_index_png(ids, palette, 4 if len(palette) <= 16 else 8)


def read_stored(folder: Path, name: str, description: Description) -> tuple[Candidates, Array]:
    """Candidates and levels (H, W) of one image as they are stored.

    Raises:
        UserError: a file is missing, damaged or of another image.
    """
    levels = description.levels
    labels = _labels(label_file(folder, "candidates", name), description.label_space)
    path = label_file(folder, "confidence", name)
    stored = read_mask(path)
    height, width = labels.shape
    stride = stride_of(description.stride, height, width)
    if stored.shape != (-(-height // stride), -(-width // stride)) or int(stored.max()) >= len(levels):
        raise DataError(f"{path} does not belong to its candidates; label the image into another folder")
    found = np.repeat(np.repeat(stored, stride, axis=0), stride, axis=1)[:height, :width]
    found = np.where(labels == IGNORE, np.uint8(0), found)
    if "certain" not in description.kinds:
        return Candidates(labels, None), found
    path = label_file(folder, "certain", name)
    certain = read_mask(path) != 0
    if certain.shape != labels.shape:
        raise DataError(f"{path} does not belong to its candidates; label the image into another folder")
    found[certain] = len(levels) - 1
    return Candidates(labels, certain), found


def read_confidence(folder: str | Path, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The confidence of each pixel's candidate label (see ``read_candidates``).

    Args:
        folder: that ``polyscale autolabel --confidence`` wrote.
        name: of the image, as in the manifest.

    Returns:
        (H, W) float32 in [0, 1]: the lower bound of the stored level; 1 where the label is the coarse label's, 0 where
        there is none.

    Raises:
        UserError: the folder has no confidence maps, or no such image.
    """
    folder = Path(folder)
    description = read_description(folder)
    _check(folder, description)
    _, found = read_stored(folder, name, description)
    return np.array(description.levels, dtype=np.float32)[found]


def read_candidates(folder: str | Path, name: str) -> Array:
    """What each pixel would be labelled if every threshold were 0.

    Args:
        folder: as for ``read_confidence``.
        name: as for ``read_confidence``.

    Returns:
        (H, W) uint8 train ids, or ``IGNORE`` where no threshold gives a label.

    Raises:
        UserError: as for ``read_confidence``.
    """
    folder = Path(folder)
    description = read_description(folder)
    _check(folder, description)
    return _labels(label_file(folder, "candidates", name), description.label_space)


def _check(folder: Path, description: Description) -> None:
    if not description.levels:
        raise UserError(f"{folder} was labelled without confidence maps; label again with --confidence")


def _labels(path: Path, space: LabelSpace) -> Array:
    return space.encode(read_mask(path))
