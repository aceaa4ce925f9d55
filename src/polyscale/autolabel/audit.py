"""Quality of auto-labels: precision and coverage of each class at every threshold, counted against a truth.

A pixel is *kept* where it has a label; a threshold drops those of lower confidence. Of a class

    precision = right pixels / pixels kept as that class          coverage = kept pixels / true pixels of that class
                                                                  recall   = right pixels / true pixels of that class

Everything comes from one table of counts: true class x label x confidence level. So a curve is exact, and costs no more
than one of its points. The thresholds are the folder's confidence levels. A label that was given and not predicted (the
last level) is kept at any threshold. Curves are of the labels before small regions are removed; the labels as they are
stored are counted from the masks.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyscale.autolabel.confidence import read_stored
from polyscale.autolabel.folder import Description, read_description
from polyscale.autolabel.pipeline import in_threads
from polyscale.data import Item, SegmentationData, open_data
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["Audit", "ClassQuality", "Disagreement", "audit", "count_labels"]

Counts = NDArray[np.int64]


class ClassQuality(NamedTuple):
    """Pixels of one class at one threshold, and what follows from them; a fraction is None where it divides by 0."""

    name: str
    kept_as: int
    """Pixels that are labelled as this class and have a truth."""
    right: int
    """Those of them that are of this class."""
    true: int
    """Pixels of this class in the truth."""
    kept: int
    """Those of them that have any label."""

    @property
    def precision(self) -> float | None:
        """Share of the pixels labelled as this class that are right."""
        return self.right / self.kept_as if self.kept_as else None

    @property
    def coverage(self) -> float | None:
        """Share of this class's true pixels that have any label."""
        return self.kept / self.true if self.true else None

    @property
    def recall(self) -> float | None:
        """Share of this class's true pixels that are labelled right."""
        return self.right / self.true if self.true else None


class Disagreement(NamedTuple):
    """How far the stored labels of one image are from the truth."""

    name: str
    auto_index: int
    """Index of the image among the auto-labels' items."""
    truth_index: int
    """Index of the image among the truth's items."""
    wrong: int
    """Labelled pixels that are of another class."""
    kept: int
    """Labelled pixels that have a truth."""
    severity: float
    """Wrong pixels, each weighted by its confidence where that is known."""


@dataclass(frozen=True)
class Audit:
    """The counts of an audit.

    Attributes:
        label_space: the classes.
        stored: (C, C + 1) pixels by true class and stored label; the last column has none.
        levels: the thresholds that can be told apart, rising; empty without confidence maps.
        counts: (C, C + 1, K) pixels by true class, label if nothing were dropped, and confidence level; None without.
        images: of each image, worst first.
        num_without_truth: auto-labelled images that the truth does not have.
    """

    label_space: LabelSpace
    stored: Counts
    levels: tuple[float, ...]
    counts: Counts | None
    images: tuple[Disagreement, ...]
    num_without_truth: int

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The levels that are thresholds: all but the last, which marks labels that were given."""
        return self.levels[:-1]

    def at(self, threshold: float | None = None) -> list[ClassQuality]:
        """Each class, and last of all "(all)", at one of ``thresholds``; None is the labels as they are stored."""
        if threshold is None:
            return _qualities(self.label_space, self.stored)
        return self.at_each(dict.fromkeys(self.label_space.names, threshold))

    def at_each(self, thresholds: Mapping[str, float]) -> list[ClassQuality]:
        """The same as ``at``, with a threshold for each class, one of ``levels``."""
        assert self.counts is not None
        starts = [self.levels.index(thresholds[name]) for name in self.label_space.names]
        kept = np.stack([self.counts[:, label, start:].sum(1) for label, start in enumerate(starts)], axis=1)
        # What a threshold drops has no label any more, but is still of its true class.
        dropped = self.counts.sum((1, 2)) - kept.sum(1)
        return _qualities(self.label_space, np.column_stack([kept, dropped]))

    def wanted(self, precision: float) -> dict[str, float | None]:
        """The lowest threshold of each class that reaches the precision; None where none does."""
        found: dict[str, float | None] = dict.fromkeys(self.label_space.names)
        for threshold in reversed(self.thresholds):
            for quality in self.at(threshold)[:-1]:
                if quality.precision is not None and quality.precision >= precision:
                    found[quality.name] = threshold
        return found

    def confusions(self, most: int = 10) -> list[tuple[str, str, int]]:
        """The most frequent mistakes of the stored labels: true class, label, pixels."""
        names = self.label_space.names
        wrong = self.stored[:, :-1] * ~np.eye(len(names), dtype=bool)
        order = np.argsort(-wrong, axis=None, kind="stable")[:most].tolist()
        places = [divmod(place, len(names)) for place in order]
        return [(names[true], names[label], int(wrong[true, label])) for true, label in places if wrong[true, label]]


def _qualities(space: LabelSpace, table: Counts) -> list[ClassQuality]:
    labelled = table[:, :-1]
    kept_as, right = labelled.sum(0).tolist(), np.diag(labelled).tolist()
    true, kept = table.sum(1).tolist(), labelled.sum(1).tolist()
    rows = [ClassQuality(*row) for row in zip(space.names, kept_as, right, true, kept, strict=True)]
    return [*rows, ClassQuality("(all)", sum(kept_as), sum(right), sum(true), sum(kept))]


def count_labels(
    truth: NDArray[np.uint8], labels: NDArray[np.uint8], num_classes: int, levels: NDArray[np.uint8], num_levels: int
) -> Counts:
    """Pixels by true class, label and level.

    Args:
        truth: (H, W) train ids; pixels of ``IGNORE`` are not counted.
        labels: (H, W) train ids; ``IGNORE`` is counted in the last column.
        num_classes: C.
        levels: (H, W), 0 .. num_levels - 1.
        num_levels: K.

    Returns:
        (C, C + 1, K).

    Example:
        >>> row = lambda *ids: np.array([ids], np.uint8)
        >>> count_labels(row(0, 1, 255), row(0, 255, 1), 2, row(1, 0, 0), 2)[..., 1].tolist()
        [[1, 0, 0], [0, 0, 0]]
    """
    counts = truth != IGNORE
    columns = np.minimum(labels[counts], num_classes).astype(np.int64)
    cells = (truth[counts].astype(np.int64) * (num_classes + 1) + columns) * num_levels + levels[counts]
    table: Counts = np.bincount(cells, minlength=num_classes * (num_classes + 1) * num_levels)
    return table.reshape(num_classes, num_classes + 1, num_levels)


def audit(
    folder: str | Path,
    truth: SegmentationData,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Compare auto-labels with a truth, image by image.

    Args:
        folder: what ``polyscale autolabel`` wrote; with confidence maps for a curve.
        truth: labelled images; those with the same image file, or else the same name, are compared.
        workers: threads; by default one for each core.
        progress: called with (images done, images in all).

    Raises:
        UserError: no image in common, other classes, sizes that differ, or a file that cannot be read.
    """
    folder = Path(folder)
    auto = open_data(folder)
    _check_classes(auto.label_space, truth.label_space)
    pairs = _pairs(auto.items, truth.items)
    if not pairs:
        raise UserError(
            f"no auto-labelled image of {folder} ({_some(auto.items)}) is in the truth ({_some(truth.items)}); "
            "images are matched by file, or by name"
        )
    description = read_description(folder)
    num_classes = auto.label_space.num_classes
    num_levels = max(1, len(description.file.levels))
    stored = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    counts = np.zeros((num_classes, num_classes + 1, num_levels), dtype=np.int64)
    images: list[Disagreement] = []

    def compare(pair: tuple[int, int]) -> tuple[Counts, Counts, Disagreement]:
        return _compare(auto, truth, *pair, folder, description)

    with contextlib.closing(in_threads(compare, pairs, workers or os.cpu_count() or 1)) as results:
        for done, (of_masks, of_levels, image) in enumerate(results, start=1):
            stored += of_masks
            counts += of_levels
            images.append(image)
            if progress is not None:
                progress(done, len(pairs))
    images.sort(key=lambda image: (-image.severity, image.name))
    levels, missing = tuple(description.file.levels), len(auto) - len(pairs)
    return Audit(auto.label_space, stored, levels, counts if levels else None, tuple(images), missing)


def _compare(
    auto: SegmentationData,
    truth: SegmentationData,
    index: int,
    truth_index: int,
    folder: Path,
    description: Description,
) -> tuple[Counts, Counts, Disagreement]:
    item, num_classes = auto.items[index], auto.label_space.num_classes
    true, labels = truth.read(truth_index).labels, auto.read(index).labels
    if true is None or labels is None:
        raise UserError(
            f"{item.name} has no mask in the {'truth' if true is None else 'labels'}; give data with one for each image"
        )
    if true.shape != labels.shape:
        raise UserError(
            f"{item.mask} is {labels.shape[1]} x {labels.shape[0]} pixels, its truth {true.shape[1]} x "
            f"{true.shape[0]}; compare labels of the same images"
        )
    stored = count_labels(true, labels, num_classes, np.zeros_like(labels), 1)
    kept = (labels != IGNORE) & (true != IGNORE)
    wrong = kept & (labels != true)
    table, severity = stored, float(wrong.sum())
    if description.file.levels:
        candidates, levels = read_stored(folder, item.name, description)
        table = count_labels(true, candidates.labels, num_classes, levels, len(description.file.levels))
        severity = float(np.array(description.file.levels)[levels[wrong]].sum())
    image = Disagreement(item.name, index, truth_index, int(wrong.sum()), int(kept.sum()), severity)
    return stored[..., 0], table, image


def _pairs(auto: Sequence[Item], truth: Sequence[Item]) -> list[tuple[int, int]]:
    """Positions of the images that both have: by the image's file, or where no file is shared, by name."""
    for key in (lambda item: str(item.image.resolve()), lambda item: item.name):
        places = {key(item): place for place, item in enumerate(truth)}
        found = [(index, places[key(item)]) for index, item in enumerate(auto) if key(item) in places]
        if found:
            return found
    return []


def _some(items: Sequence[Item]) -> str:
    return ", ".join(item.name for item in items[:2]) + (", …" if len(items) > 2 else "")


def _check_classes(auto: LabelSpace, truth: LabelSpace) -> None:
    if [name.casefold() for name in auto.names] != [name.casefold() for name in truth.names]:
        raise UserError(
            f"auto-labels (label space {auto.name!r}: {_listed(auto)}) and truth ({truth.name!r}: {_listed(truth)}) "
            "have different classes; give a truth with the teacher's classes in the same order"
        )


def _listed(space: LabelSpace) -> str:
    return ", ".join(space.names[:4]) + (", …" if space.num_classes > 4 else "")
