"""Instance-weighted IoU (iIoU) of Cityscapes: each object counts alike, however large it is.

A found or missed pixel weighs as much as the mean size of its class's objects divided by the size of its own object;
what is predicted wrongly belongs to no object and is not weighted. The official evaluator gives the same numbers.

Source: Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016, section 3.1.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.processes import sum_over_ranks

if TYPE_CHECKING:
    from polyscale.data.items import SegmentationData

__all__ = ["InstanceCounts", "InstanceScores"]

_MEAN_SIZES = {
    "person": 3462.4756,
    "rider": 3930.4788,
    "car": 12794.0203,
    "truck": 27855.1264,
    "bus": 35732.1511,
    "train": 67583.7076,
    "motorcycle": 6298.7201,
    "bicycle": 4672.3249,
}
"""Pixels of the mean object of each class, as the benchmark fixed them."""

_CATEGORIES = {"human": ("person", "rider"), "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle")}

_PER_CLASS = 1000
"""An object's id is its class's label id times this, and a number; smaller ids are regions without objects."""

_FIXED_POINT = 2**40
"""Shares are summed as whole numbers, so that the sum does not depend on the order of the images."""


@dataclass(frozen=True)
class InstanceScores:
    """Instance-weighted IoU, fractions in [0, 1]; None where neither truth nor prediction has the class."""

    classes: dict[str, float | None]
    categories: dict[str, float | None]
    objects: dict[str, int]
    """True objects of each class."""

    @property
    def mean_classes(self) -> float | None:
        """Of the classes that have a score."""
        return _mean(self.classes)

    @property
    def mean_categories(self) -> float | None:
        """Of the categories that have a score."""
        return _mean(self.categories)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"mean_classes": self.mean_classes, "mean_categories": self.mean_categories, **asdict(self)}


class InstanceCounts:
    """Sums over images from which ``compute`` makes the scores.

    Args:
        label_space: the classes of Cityscapes.
        files: of instance ids, by the images' names.
    """

    def __init__(self, label_space: LabelSpace, files: dict[str, Path]) -> None:
        self._space = label_space
        self._files = files
        names = self._space.names
        self._category = torch.zeros(len(names), dtype=torch.int64)
        for number, members in enumerate(_CATEGORIES.values(), start=1):
            self._category[[names.index(name) for name in members]] = number
        self.sums = torch.zeros(3, len(names), dtype=torch.int64)
        """Of each class: shares found as the class, shares found as its category, objects."""

    @classmethod
    def of(cls, data: "SegmentationData") -> "InstanceCounts | None":
        """Counts for a data set; None where it is not Cityscapes or has no instance ids."""
        from polyscale.data.cityscapes import CityscapesData

        files = data.instance_files if isinstance(data, CityscapesData) else {}
        return cls(data.label_space, files) if files else None

    def add(self, name: str, classes: Tensor) -> None:
        """Add one image's prediction, (H, W) train ids.

        Raises:
            UserError: the file of instance ids is damaged or of another size.
        """
        from polyscale.data.masks import read_mask

        path = self._files[name]
        ids = read_mask(path).astype(np.int64)
        if ids.shape != tuple(classes.shape):
            raise UserError(
                f"{path} is {ids.shape[1]} x {ids.shape[0]} pixels, its image {classes.shape[1]} x {classes.shape[0]}; "
                "unpack the zip of the labels again"
            )
        inside = ids > _PER_CLASS
        found = classes.cpu()[torch.from_numpy(inside)].long()
        objects, places, counts = np.unique(ids[inside], return_inverse=True, return_counts=True)
        member, sizes = torch.from_numpy(places), torch.from_numpy(counts)
        true = torch.from_numpy(self._space.encode(objects // _PER_CLASS)).long()
        kept = (true < self._space.num_classes).nonzero().flatten()
        same = found == true[member]
        categories = torch.cat([self._category, self._category.new_zeros(256 - len(self._category))])
        alike = (categories[found] == categories[true[member]]) & (categories[found] > 0)
        for row, right in enumerate((same, alike)):
            pixels = torch.bincount(member, right.double(), minlength=len(objects))
            shares = (pixels / sizes * _FIXED_POINT).round().long()
            self.sums[row].index_add_(0, true[kept], shares[kept])
        self.sums[2].index_add_(0, true[kept], torch.ones_like(kept))

    def compute(self, confusion: Tensor, device: torch.device) -> InstanceScores:
        """The scores, in every process those of all.

        Args:
            confusion: (C, C) of all images and processes, rows truth, columns prediction.
            device: where processes exchange their sums.
        """
        sum_over_ranks([self.sums], device)
        names = self._space.names
        own, alike, objects = (dict(zip(names, row, strict=True)) for row in self.sums.tolist())
        places = {name: names.index(name) for name in _MEAN_SIZES}

        def score(found: dict[str, int], members: tuple[str, ...]) -> float | None:
            rows = [places[name] for name in members]
            right = sum(_MEAN_SIZES[name] * found[name] / _FIXED_POINT for name in members)
            true = sum(_MEAN_SIZES[name] * objects[name] for name in members)
            wrong = int(confusion[:, rows].sum() - confusion[rows][:, rows].sum())
            return right / (true + wrong) if true + wrong else None

        return InstanceScores(
            {name: score(own, (name,)) for name in _MEAN_SIZES},
            {name: score(alike, members) for name, members in _CATEGORIES.items()},
            {name: objects[name] for name in _MEAN_SIZES},
        )


def _mean(scores: dict[str, float | None]) -> float | None:
    defined = [value for value in scores.values() if value is not None]
    return sum(defined) / len(defined) if defined else None
