"""Candidates and confidence maps, which are stored so that other thresholds can be applied later.

A stored value is the lowest confidence of its square of pixels, rounded down to a level (see ``data.confidence``). So
a value that is read is never above the true one. It is 0 where nothing can be labelled, and 1 where the coarse label
decides.
"""

from pathlib import Path
from typing import Any

import numpy as np

from polyscale.autolabel.folder import Description, label_file, read_description
from polyscale.autolabel.rules import Candidates
from polyscale.data.confidence import read_levels, stride_of
from polyscale.data.masks import read_mask, write_mask
from polyscale.data.png import write_index_png
from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["level_palette", "read_candidates", "read_confidence", "read_stored", "to_levels", "write_stored"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

_BLUE = (60, 120, 255)


def to_levels(
    candidates: Candidates, confidence: np.ndarray[Any, Any], levels: tuple[float, ...], stride: int
) -> Array:
    """Round confidence (H, W) down to levels.

    Args:
        candidates: of the same image.
        confidence: of the teacher, (H, W) float32 in [0, 1].
        levels: as ``AutolabelConfig.stored_levels``; the teacher never reaches the last one.
        stride: pixels a side of the squares.

    Returns:
        (ceil(H / stride), ceil(W / stride)) uint8 indices into ``levels``.
    """
    found = np.zeros(confidence.shape, dtype=np.uint8)
    for bound in np.array(levels[1:-1], dtype=np.float32):
        found += confidence >= bound
    if candidates.certain is not None:
        found[candidates.certain] = len(levels) - 1
    # Ignored pixels must not lower the square that they share with others, and count as 0 where they are alone in it.
    found[candidates.labels == IGNORE] = IGNORE
    if stride > 1:
        height, width = found.shape
        padded = np.pad(found, ((0, -height % stride), (0, -width % stride)), constant_values=IGNORE)
        rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
        found = padded.reshape(rows, stride, columns, stride).min(axis=(1, 3))
    found[found == IGNORE] = 0
    return found


def level_palette(num_levels: int) -> Array:
    """Colours of levels, (K, 3): the surer the lighter, and blue for the last, the coarse label's."""
    grey = np.linspace(0, 255, num_levels).round().astype(np.uint8)
    palette = np.stack([grey, grey, grey], axis=1)
    palette[-1] = _BLUE
    return palette


def write_stored(
    folder: Path, name: str, description: Description, candidates: Candidates, confidence: np.ndarray[Any, Any]
) -> None:
    """Write candidates, confidence map and (with coarse labels) the certain pixels of one image.

    Raises:
        UserError: a file cannot be written.
    """
    levels = description.file.levels
    stride = stride_of(description.file.confidence_stride, *candidates.labels.shape)
    stored = to_levels(candidates, confidence, levels, stride)
    write_mask(label_file(folder, "candidates", name), candidates.labels, description.label_space)
    write_index_png(label_file(folder, "confidence", name), stored, level_palette(len(levels)))
    if "certain" in description.kinds:
        certain = candidates.certain
        marked = np.zeros_like(candidates.labels) if certain is None else certain.astype(np.uint8)
        write_index_png(label_file(folder, "certain", name), marked, np.array([(0, 0, 0), _BLUE], dtype=np.uint8))


def read_stored(folder: Path, name: str, description: Description) -> tuple[Candidates, Array]:
    """Candidates and levels (H, W) of one image, as ``write_stored`` wrote them.

    Raises:
        UserError: a file is missing, damaged or of another size.
    """
    labels = description.label_space.encode(read_mask(label_file(folder, "candidates", name)))
    found = read_levels(folder, f"{name}.png", description.file, labels.shape)
    found[labels == IGNORE] = 0
    certain = found == len(description.file.levels) - 1 if description.file.has_given else None
    return Candidates(labels, certain), found


def read_confidence(folder: str | Path, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The confidence of each pixel's candidate label (see ``read_candidates``).

    Args:
        folder: that ``polyscale autolabel --confidence`` wrote.
        name: of the image, as in the manifest.

    Returns:
        (H, W) float32 in [0, 1]: the lower bound of the stored level; 1 where the label is a coarse label, 0 where
        there is none.

    Raises:
        UserError: the folder has no confidence maps, or no such image.
    """
    description = description_with_maps(folder)
    _, found = read_stored(Path(folder), name, description)
    return np.array(description.file.levels, dtype=np.float32)[found]


def read_candidates(folder: str | Path, name: str) -> Array:
    """The labels of an image if every threshold were 0.

    Args:
        folder: as for ``read_confidence``.
        name: as for ``read_confidence``.

    Returns:
        (H, W) uint8 train ids, or ``IGNORE`` where no threshold gives a label.

    Raises:
        UserError: as for ``read_confidence``.
    """
    candidates, _ = read_stored(Path(folder), name, description_with_maps(folder))
    return candidates.labels


def description_with_maps(folder: str | Path) -> Description:
    """The description of a folder with confidence maps.

    Raises:
        UserError: the folder was not written by auto-labelling, or without confidence maps.
    """
    description = read_description(folder)
    if not description.file.levels:
        raise UserError(f"{folder} was labelled without confidence maps; label again with --confidence")
    return description
