"""Labels that are probably wrong: where a network is sure of another class than the label says.

The unit is a *region*: connected pixels with one label and one other class predicted. Four things make it suspect, each
from 0 to 1, and their product is its score:

* *doubt*: one less the probability that the network gives to the label, mean over the region, to the fourth power. A
  label that is right is seldom excluded altogether, even where another class wins.
* *whole*: the part that the region is of the labelled object, and of the predicted one; the mean of both. A wrong label
  is wrong of a whole object; a strip along a border is a small part of two.
* *trust*: how often this class, predicted this surely, agrees with the labels of the whole data set. A network that is
  sure and wrong of one class is not believed there. It is counted, so nothing has to be calibrated.
* *size*: pixels / (pixels + ``SMALL``): a few pixels prove little.

Images pass one by one; what is kept are whole numbers: a table of counts and some numbers a region. The idea of
counting a network's sureness class for class is that of confident learning (Northcutt, Jiang and Chuang 2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from polyscale.data.regions import find_regions
from polyscale.evaluation.checks import check_channels, check_classes, check_items, no_mask
from polyscale.evaluation.loop import read_ahead
from polyscale.labels import IGNORE, LabelSpace
from polyscale.looker import Looker

if TYPE_CHECKING:
    from polyscale.data.items import SegmentationData

__all__ = ["SuspectImage", "SuspectRegion", "Suspects", "find_suspects", "look_for_suspects"]

Array = np.ndarray[Any, np.dtype[Any]]

LEVELS = 32
"""Steps of confidence that are counted apart."""

SMALL = 32
"""A region of so many pixels has half the weight of a large one."""


class SuspectRegion(NamedTuple):
    """Connected pixels of one label in which the network sees one other class."""

    name: str
    """Name of the image."""
    item: int
    """Index of the image among the data set's items."""
    box: tuple[int, int, int, int]
    """Top, left, bottom, right in pixels, the last two one past the region."""
    label: int
    """Train id that is given."""
    predicted: int
    """Train id that the network sees."""
    pixels: int
    confidence: float
    """Mean probability of the class predicted, 0 to 1."""
    label_probability: float
    """Mean probability of the label, 0 to 1."""
    whole: float
    """Part of the labelled and of the predicted object that the region is, the mean of both, 0 to 1."""
    score: float
    """0 to 1."""


class SuspectImage(NamedTuple):
    """The suspect part of an image."""

    name: str
    item: int
    """Index of the image among the data set's items."""
    regions: int
    """Listed regions."""
    pixels: int
    """Number of pixels in these regions."""
    score: float
    """Sum of pixels x score over its regions: pixels that are probably wrong."""


@dataclass(frozen=True)
class Suspects:
    """The counts and the suspects.

    Attributes:
        label_space: the classes.
        counts: (C, C, LEVELS) pixels by label, predicted class and confidence.
        regions: most suspect first.
        images: with a suspect region, most suspect first.
        num_images: looked at.
        num_objects: connected regions of one label with ``smallest`` pixels or more, in all images.
        smallest: regions of fewer pixels are not listed.
    """

    label_space: LabelSpace
    counts: Array
    regions: tuple[SuspectRegion, ...]
    images: tuple[SuspectImage, ...]
    num_images: int
    num_objects: int
    smallest: int

    def confusions(self, most: int = 10) -> list[tuple[int, int, int]]:
        """The pairs of label and other class predicted with most pixels: label, predicted, pixels."""
        table = self.counts.sum(2)
        np.fill_diagonal(table, 0)
        order = np.argsort(-table, axis=None, kind="stable")[:most].tolist()
        places = [divmod(place, len(table)) for place in order]
        return [
            (label, predicted, int(table[label, predicted])) for label, predicted in places if table[label, predicted]
        ]


def find_suspects(
    looker: Looker,
    data: "SegmentationData",
    label_space: LabelSpace,
    scales: Sequence[float] | None = None,
    *,
    flip: bool = False,
    smallest: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Suspects:
    """Look at every image of a data set, and list where the network is sure of another class than its label.

    Args:
        looker: the network.
        data: with a mask for each image.
        label_space: the network's classes, which must be those of the data.
        scales: by default the network's own.
        flip: also look at the mirrored images.
        smallest: pixels of the smallest region to list.
        progress: called with (images done, images in all).

    Raises:
        UserError: an image has no mask, the classes differ, the data set is empty or a file cannot be read.
    """
    check_items(data)
    check_channels(looker.model, data)
    check_classes(label_space, data.label_space)
    chosen = looker.choose(scales)
    num_classes = data.label_space.num_classes
    counts = np.zeros((num_classes, num_classes, LEVELS), dtype=np.int64)
    rows, num_objects = [], 0
    for index, sample in enumerate(read_ahead(data, range(len(data)))):
        if sample.labels is None:
            raise no_mask(sample.name)
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255
        probabilities = looker.look(image, chosen, flip).probabilities[0]
        confidence, predicted = probabilities.max(0)
        given = torch.from_numpy(sample.labels).to(probabilities.device).long()
        own = probabilities.gather(0, given.clamp_max(num_classes - 1)[None])[0]
        sure, given_as = ((255 * x).round().byte().cpu().numpy() for x in (confidence, own))
        seen = predicted.byte().cpu().numpy()
        found = look_for_suspects(sample.labels, seen, sure, given_as, num_classes, smallest)
        counts += found[0]
        rows.append(np.column_stack([np.full(len(found[1]), index), found[1]]))
        num_objects += found[2]
        if progress is not None:
            progress(index + 1, len(data))
    table = np.concatenate(rows)
    regions = _regions(table, _trust(counts), [item.name for item in data.items])
    return Suspects(data.label_space, counts, regions, _images(regions), len(data), num_objects, smallest)


def look_for_suspects(
    labels: Array, predicted: Array, confidence: Array, own: Array, num_classes: int, smallest: int
) -> tuple[Array, Array, int]:
    """What one image adds.

    Args:
        labels: (H, W) train ids or ``IGNORE``.
        predicted: (H, W) train ids.
        confidence: (H, W) probability of the class predicted, 0 to 255.
        own: (H, W) probability of the label, 0 to 255; anything where it is ignored.
        num_classes: C.
        smallest: pixels of the smallest region to list.

    Returns:
        Counts (C, C, LEVELS), regions (R, 11) int64 (box, label, class predicted, pixels, summed confidence, summed
        probability of the label, pixels of the whole labelled object and of the predicted one), and the number of
        labelled objects of ``smallest`` pixels or more.
    """
    kept = labels != IGNORE
    cells = (labels[kept].astype(np.int64) * num_classes + predicted[kept]) * LEVELS
    cells += confidence[kept].astype(np.int64) * LEVELS // 256
    counts = np.bincount(cells, minlength=num_classes * num_classes * LEVELS).reshape(num_classes, num_classes, LEVELS)
    pairs = np.where(kept & (labels != predicted), labels.astype(np.int32) * 256 + predicted, -1)
    found, given, seen = find_regions(pairs), find_regions(labels), find_regions(np.where(kept, predicted, IGNORE))
    size = found.size
    listed = (found.value >= 0) & (size >= smallest)
    _, runs = np.unique(found.region, return_index=True)
    start = found.first[runs]
    whole_given, whole_seen = (whole.spread(whole.size).ravel()[start] for whole in (given, seen))
    label, other = np.divmod(found.value, 256)
    sums = [found.total(confidence), found.total(own)]
    columns = [*found.boxes().T, label, other, size, *sums, whole_given, whole_seen]
    table = np.column_stack(columns)[listed]
    return counts, table.astype(np.int64), int(((given.size >= smallest) & (given.value != IGNORE)).sum())


def _trust(counts: Array) -> Array:
    """(C, LEVELS) the part of a class's predictions, by confidence, that agrees with the labels."""
    agreeing = np.diagonal(counts).T
    trust: Array = (agreeing + 1) / (counts.sum(0) + 2)
    return trust


def _regions(table: Array, trust: Array, names: Sequence[str]) -> tuple[SuspectRegion, ...]:
    if not len(table):
        return ()
    index, *box, label, predicted, pixels, confidence, own, whole_given, whole_seen = table.T
    level = confidence * LEVELS // (256 * pixels)
    doubt = (1 - own / (255 * pixels)) ** 4
    whole = (pixels / whole_given + pixels / whole_seen) / 2
    score = trust[predicted, level] * doubt * whole * pixels / (pixels + SMALL)
    order = np.lexsort((index, -score))
    corners = np.stack(box, axis=1)
    return tuple(
        SuspectRegion(
            name=names[index[k]],
            item=int(index[k]),
            box=(int(corners[k, 0]), int(corners[k, 1]), int(corners[k, 2]), int(corners[k, 3])),
            label=int(label[k]),
            predicted=int(predicted[k]),
            pixels=int(pixels[k]),
            confidence=float(confidence[k] / (255 * pixels[k])),
            label_probability=float(own[k] / (255 * pixels[k])),
            whole=float(whole[k]),
            score=float(score[k]),
        )
        for k in order
    )


def _images(regions: Sequence[SuspectRegion]) -> tuple[SuspectImage, ...]:
    found: dict[int, list[SuspectRegion]] = {}
    for region in regions:
        found.setdefault(region.item, []).append(region)
    images = [
        SuspectImage(
            some[0].name,
            index,
            len(some),
            sum(region.pixels for region in some),
            sum(region.pixels * region.score for region in some),
        )
        for index, some in found.items()
    ]
    return tuple(sorted(images, key=lambda image: (-image.score, image.item)))
