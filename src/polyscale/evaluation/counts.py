"""Integer counts of one image, and of many: what a report is rendered from.

All are sums, so that parts of a data set (of several processes) add up to the whole. The confusion of each image and
row is kept as the entries that are not zero: an image has few of the pairs of classes that there could be.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polyscale.labels import IGNORE
from polyscale.metrics import (
    BORDER_BINS,
    FIXED_POINT,
    THICKNESS_BINS,
    border_bins,
    calibration_counts,
    thickness_bins,
    top_class,
)

__all__ = ["BOUNDARY_WIDTHS", "CONFIDENT", "LEVELS", "TEMPERATURES", "Counts", "Seen", "sampled"]

Array = np.ndarray[Any, np.dtype[np.int64]]

BOUNDARY_WIDTHS = BORDER_BINS[:3]
"""Of the bands of boundary IoU, in pixels: bins of the distance to the border, which are found anyway."""

CONFIDENT = 0.9
"""A wrong pixel with at least this probability is a confident error."""

LEVELS = 256
"""Of confidence: level k holds k/256 <= confidence < (k + 1)/256, the last one also 1."""

NUM_BINS = 15

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0)
"""Temperatures that divide the logits of the network's own result, to see which calibrates it best."""

MOST_PIXELS = 10_000
"""Pixels of an image on which the temperatures are tried: a regular grid of about so many."""

LONGEST_MAP = 384
"""Weights and confidences are kept at a whole fraction of the image's size, at most half of it, whose longer side is at
most this: networks work on a grid of every fourth pixel, and finer maps would hold nothing more."""


class Seen(NamedTuple):
    """What one row says of an image."""

    classes: Tensor
    """(H, W) uint8 train ids."""
    confidence: Tensor | None = None
    """The probability of the class in [0, 1], (H, W) or at the ``sampled`` pixels; None where there is none."""


def sampled(x: Tensor) -> Tensor:
    """The pixels whose weights and confidences are kept: the middle one of each square of k x k pixels.

    Args:
        x: (..., H, W); k is chosen by its size.

    Returns:
        (..., ceil(H / k), ceil(W / k)).
    """
    factor = max(2, -(-max(x.shape[-2:]) // LONGEST_MAP))
    for dim in (-2, -1):
        places = torch.arange(0, x.shape[dim], factor, device=x.device) + factor // 2
        x = x.index_select(dim, places.clamp_max_(x.shape[dim] - 1))
    return x


class Counts:
    """Sums over images, and a few numbers of each.

    Args:
        num_classes: C.
        rows: R names, the network's own result first.
        rival: the row of ``rows`` that the first is compared with pixel by pixel, or None.
        scales: S scales whose weights are given, or none.
    """

    def __init__(self, num_classes: int, rows: Sequence[str], rival: str | None, scales: Sequence[float]) -> None:
        self.num_classes, self.rows, self.rival, self.scales = num_classes, tuple(rows), rival, tuple(scales)
        c, r, t, b = num_classes, len(self.rows), len(THICKNESS_BINS) + 1, len(BORDER_BINS) + 1
        shapes: dict[str, tuple[int, ...]] = {
            "reliability": (r, 3, NUM_BINS),
            "levels": (c, LEVELS, 2),
            "temperature": (2, len(TEMPERATURES), 3, NUM_BINS),
            "log_loss": (2, len(TEMPERATURES)),
            "thickness_pixels": (c, t),
            "thickness": (r, c, t),
            "border_pixels": (c, b),
            "border": (r, c, b),
            "boundary": (r, len(BOUNDARY_WIDTHS), 2, c),
            "large_confusion": (r, c, c),
            "weight_by_thickness": (len(self.scales), t),
        }
        self.sums: dict[str, Array] = {name: np.zeros(shape, dtype=np.int64) for name, shape in shapes.items()}
        self.images: dict[str, list[Array]] = {
            name: [] for name in ("index", "rescued", "spoiled", "confident_errors", "image_thickness", "image_pixels")
        }
        self._entries: list[tuple[Array, Array]] = []

    def add(
        self,
        index: int,
        labels: Tensor,
        seen: Mapping[str, Seen],
        weights: Mapping[float, Tensor] | None = None,
        probabilities: Tensor | None = None,
    ) -> Array:
        """Add one image.

        Args:
            index: of the image in its data set.
            labels: (H, W) uint8, train ids or ``IGNORE``.
            seen: row -> what it says; every row.
            weights: scale -> (1, 1, H, W), each scale's weight in the first row.
            probabilities: (C, H, W) of the first row, for the temperatures.

        Returns:
            Confusion of each row, (R, C, C).
        """
        own = seen[self.rows[0]]
        thickness, border, valid = thickness_bins(labels), border_bins(labels), labels != IGNORE
        nothing = torch.full_like(labels, IGNORE)
        large = labels.int() * 2 + (thickness == len(THICKNESS_BINS))
        pixels = self._table(labels, thickness, len(THICKNESS_BINS) + 1)
        border_pixels = self._table(labels, border, len(BORDER_BINS) + 1)
        self.sums["thickness_pixels"] += pixels
        self.sums["border_pixels"] += border_pixels
        widths = len(BOUNDARY_WIDTHS)
        true_bands = border_pixels.cumsum(1)[:, :widths]
        shape = (len(THICKNESS_BINS) + 1, len(BORDER_BINS) + 1, widths + 1)
        where = (thickness * shape[1] + border) * shape[2]
        few = sampled(labels)
        matrices, image_thickness = [], []
        for k, row in enumerate(self.rows):
            classes, confidence = seen[row]
            guess = torch.where(valid, classes, nothing)
            near = border_bins(guess, BOUNDARY_WIDTHS)
            # One table of what is right serves thickness, border and the bands that truth and prediction share.
            right = self._table(torch.where(guess == labels, labels, nothing), where + near, math.prod(shape))
            right = right.reshape(self.num_classes, *shape)
            self.sums["thickness"][k] += right.sum((2, 3))
            self.sums["border"][k] += right.sum((1, 3))
            image_thickness.append(right.sum((0, 2, 3)))
            shared = right.sum(1).cumsum(1).cumsum(2)[:, range(widths), range(widths)]
            bands = true_bands + self._table(guess, near, widths + 1).cumsum(1)[:, :widths]
            self.sums["boundary"][k] += np.stack([shared.T, (bands - shared).T], axis=1)
            # So does one for the confusion of all pixels and of those of large objects.
            confusion = self._table(guess, large, 512).reshape(self.num_classes, 256, 2)[:, : self.num_classes]
            matrices.append(confusion.sum(2).T)
            self.sums["large_confusion"][k] += confusion[:, :, 1].T
            if confidence is not None:
                some = (classes, labels) if confidence.shape == labels.shape else (sampled(classes), few)
                found = calibration_counts(confidence, *some, NUM_BINS)
                self.sums["reliability"][k] += found.cpu().numpy()
        if own.confidence is not None:
            self._add_levels(own.classes, own.confidence, labels)
        if probabilities is not None:
            self._add_temperatures(index, probabilities, labels)
        for s, scale in enumerate(self.scales if weights is not None else ()):
            assert weights is not None
            fixed = (weights[scale][0, 0].float() * FIXED_POINT).round().long()
            bins = torch.where(valid, thickness, len(THICKNESS_BINS) + 1).flatten().long()
            sums = torch.zeros(len(THICKNESS_BINS) + 2, dtype=torch.int64, device=bins.device)
            found = sums.scatter_add_(0, bins, fixed.flatten())[:-1]
            self.sums["weight_by_thickness"][s] += found.cpu().numpy()
        self._add_image(index, labels, seen, np.stack(image_thickness), pixels.sum(0))
        confusion = np.stack(matrices)
        entries = np.flatnonzero(confusion)
        self._entries.append((entries, confusion.reshape(-1)[entries]))
        return confusion

    def _add_image(self, index: int, labels: Tensor, seen: Mapping[str, Seen], thickness: Array, pixels: Array) -> None:
        own = seen[self.rows[0]]
        right = own.classes == labels
        nothing = torch.full_like(labels, IGNORE)
        if self.rival is not None:
            theirs = seen[self.rival].classes == labels
            rescued, spoiled = (
                self._table(torch.where(where, labels, nothing), None, 1)[:, 0]
                for where in (right & ~theirs, theirs & ~right)
            )
        else:
            rescued = spoiled = np.zeros(self.num_classes, dtype=np.int64)
        wrong = ~right & (labels != IGNORE)
        sure = 0 if own.confidence is None else int((wrong & (own.confidence >= CONFIDENT)).sum())
        for name, value in (
            ("index", np.int64(index)),
            ("rescued", rescued),
            ("spoiled", spoiled),
            ("confident_errors", np.int64(sure)),
            ("image_thickness", thickness),
            ("image_pixels", pixels),
        ):
            self.images[name].append(np.asarray(value))

    def _table(self, classes: Tensor, bins: Tensor | None, num_bins: int) -> Array:
        """Pixels by class and bin, (C, bins); those of ``IGNORE`` are left out."""
        joint = classes.int() if bins is None else classes.int() * num_bins + bins.int()
        table = torch.bincount(joint.flatten(), minlength=256 * num_bins).view(256, num_bins)
        found: Array = table[: self.num_classes].cpu().numpy()
        return found

    def _add_levels(self, classes: Tensor, confidence: Tensor, labels: Tensor) -> None:
        level = (confidence.float() * LEVELS).int().clamp_(0, LEVELS - 1)
        joint = (classes.int() * LEVELS + level) * 2 + (classes == labels)
        joint = torch.where(labels == IGNORE, self.num_classes * LEVELS * 2, joint)
        table = torch.bincount(joint.flatten(), minlength=self.num_classes * LEVELS * 2 + 1)[:-1]
        self.sums["levels"] += table.view(self.num_classes, LEVELS, 2).cpu().numpy()

    def _add_temperatures(self, index: int, probabilities: Tensor, labels: Tensor) -> None:
        """Calibration and log loss at each temperature.

        Images of even and odd number are kept apart: one half chooses the temperature that the other is measured with.
        """
        stride = max(1, round((labels.numel() / MOST_PIXELS) ** 0.5))
        some, truth = probabilities[:, ::stride, ::stride], labels[::stride, ::stride]
        valid = truth != IGNORE
        some, truth = some[:, valid], truth[valid].long()
        some = some.clamp_min(torch.finfo(some.dtype).tiny).log().float()
        highest, best = top_class(some)
        some -= highest
        behind = -some.gather(0, truth[None])[0]
        for t, temperature in enumerate(TEMPERATURES):
            total = (some / temperature).exp_().sum(0)  # in units of the best class, whose share is 1 / total
            counts = calibration_counts(1 / total, best, truth, NUM_BINS)
            loss = (behind / temperature + total.log()).double().sum() * 1024
            self.sums["temperature"][index % 2, t] += counts.cpu().numpy()
            self.sums["log_loss"][index % 2, t] += round(float(loss))

    def arrays(self) -> dict[str, Array]:
        """Everything, for ``numpy.savez``; images are in the order of their numbers."""
        order = np.argsort([int(index) for index in self.images["index"]], kind="stable")
        entries = [self._entries[k] for k in order]
        shape = {
            "image_thickness": (len(self.rows), len(THICKNESS_BINS) + 1),
            "image_pixels": (len(THICKNESS_BINS) + 1,),
        }
        shape |= {"rescued": (self.num_classes,), "spoiled": (self.num_classes,)}
        per_image = {
            name: np.stack([values[k] for k in order])
            if values
            else np.zeros((0, *shape.get(name, ())), dtype=np.int64)
            for name, values in self.images.items()
        }
        return {
            **self.sums,
            **per_image,
            "confusion_starts": np.cumsum([0, *(len(place) for place, _ in entries)], dtype=np.int64),
            "confusion_entries": np.concatenate([place for place, _ in entries] or [np.zeros(0, np.int64)]),
            "confusion_counts": np.concatenate([count for _, count in entries] or [np.zeros(0, np.int64)]),
        }

    def merge(self, arrays: Mapping[str, Array]) -> None:
        """Add what another process counted, as its ``arrays`` gave it."""
        for name, total in self.sums.items():
            total += arrays[name]
        for name, values in self.images.items():
            values += list(arrays[name])
        starts = arrays["confusion_starts"]
        for start, end in pairwise(starts.tolist()):
            entries = arrays["confusion_entries"][start:end], arrays["confusion_counts"][start:end]
            self._entries.append(entries)
