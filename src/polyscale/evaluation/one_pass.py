"""Evaluates one image in every row of the scores.

The network looks at an image once (twice with its mirror), and its own result, each scale alone, the averages and the
control of constant attention are all made of those same views. Of these only the network's own result is turned into
probabilities.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from polyscale.baselines import average_probabilities
from polyscale.data.bands import as_rgb
from polyscale.errors import UserError
from polyscale.evaluation.attention import AttentionTotals
from polyscale.evaluation.counts import Seen
from polyscale.evaluation.recording import Recording, seen
from polyscale.evaluation.rows import (
    AVERAGE_PROBABILITIES,
    AVERAGE_WITH_FLIP,
    FUSED,
    FUSED_WITHOUT_FLIP,
    comparisons,
    scale_row,
)
from polyscale.looker import Looker, see, weights_of
from polyscale.metrics import SegmentationScores, top_class
from polyscale.multiscale import MultiScale
from polyscale.tiles import ArrayPixels, Tiles, classify_in_tiles
from polyscale.views import Fused, View, at_input_sizes

if TYPE_CHECKING:
    from polyscale.data.items import Sample

__all__ = ["OnePass"]

Views = dict[float, View]


@dataclass(frozen=True)
class OnePass:
    """One pass over the images; holds the scores that each image adds to."""

    model: MultiScale
    scales: tuple[float, ...]
    """All scales to look at."""
    own: tuple[float, ...]
    """Those of the network's own result."""
    flip: bool
    autocast: torch.dtype | None
    rows: Mapping[str, SegmentationScores]
    attention: AttentionTotals | None
    recording: Recording | None = None
    keep: tuple[Callable[[str, Tensor], None], ...] = ()
    """Each gets an image's name and the network's own classes."""
    tiles: Tiles | None = None

    def score(self, sample: "Sample", images: Tensor, labels: Tensor, index: int) -> None:
        """Add one image (1, 3, H, W) with its labels (H, W) to every row."""
        name = sample.name
        if self.tiles is not None and max(labels.shape) > self.tiles.tile:
            self._score_tiles(name, sample.image, labels)
            return
        fused, views, grids = self._look(name, images)
        weights = None
        if self.attention is not None:
            own = fused._replace(views={scale: grids[scale] for scale in self.own})
            weights = weights_of(self.model, own, labels.shape)
            self.attention.update(weights, labels)
        average = None
        kept: dict[str, Seen] = {}
        if len(self.rows) > 1:
            for row, scores in comparisons(views, self.model.method):
                found = self._seen(row, scores)
                self.rows[row].update(found.classes, labels)
                kept[row] = found
                if row == AVERAGE_PROBABILITIES and self.flip:
                    average = scores
        del views
        if self.recording is None and not self.flip and not self._calibrated:
            self._count(name, fused.logits[0], labels)
            return
        result = fused.logits.softmax(1)[0]
        del fused
        if self.flip:
            if FUSED_WITHOUT_FLIP in self.rows:
                kept[FUSED_WITHOUT_FLIP] = self._seen(FUSED_WITHOUT_FLIP, result)
                self.rows[FUSED_WITHOUT_FLIP].update(kept[FUSED_WITHOUT_FLIP].classes, labels)
            mirrored, views, _ = self._look(name, images.flip(-1))
            if average is not None:
                average = (average + average_probabilities(views)[0].flip(-1)) / 2
                kept[AVERAGE_WITH_FLIP] = self._seen(AVERAGE_WITH_FLIP, average)
                self.rows[AVERAGE_WITH_FLIP].update(kept[AVERAGE_WITH_FLIP].classes, labels)
            del views, average
            result = (result + mirrored.logits.softmax(1)[0].flip(-1)) / 2
        kept[FUSED] = self._count(name, result, labels)
        if self.recording is not None:
            self.recording.add(index, name, as_rgb(sample.image), labels, kept, weights, result, grids)

    def _score_tiles(self, name: str, pixels: np.ndarray[Any, np.dtype[np.uint8]], labels: Tensor) -> None:
        assert self.tiles is not None
        looker = Looker(self.model, labels.device, prepare=False, autocast=self.autocast)
        try:
            found = classify_in_tiles(looker, ArrayPixels(pixels), self.tiles, self.own, self.flip)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        labels, classes = labels.cpu(), found.labels[0].long()
        self.rows[FUSED].update(classes, labels, found.confidence[0] if self._calibrated else None)
        if self.attention is not None:
            self.attention.update({scale: weight[:, None] for scale, weight in found.weights.items()}, labels)
        for keep in self.keep:
            keep(name, classes)

    @property
    def _calibrated(self) -> bool:
        return "calibration" in self.rows[FUSED].state()

    def _count(self, name: str, scores: Tensor, labels: Tensor) -> Seen:
        """Add the network's own result; probabilities are needed only where calibration is measured or recorded."""
        best, classes = top_class(scores)
        self.rows[FUSED].update(classes, labels, best if self._calibrated else None)
        for keep in self.keep:
            keep(name, classes)
        return Seen(classes, best)

    def _seen(self, row: str, scores: Tensor) -> Seen:
        """The best class of each pixel; how sure it is only where a report shows that."""
        average = row == AVERAGE_PROBABILITIES
        if self.recording is None or not (average or row in map(scale_row, self.scales)):
            return Seen(top_class(scores)[1])
        return seen(scores, average)

    def _look(self, name: str, images: Tensor) -> tuple[Fused, Views, Views]:
        """The network's own result, the view of each scale at its input's size, and as fusion left it."""
        try:
            fused = see(self.model, images, self.own, self.scales, self.autocast)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        num_classes, expected = fused.logits.shape[1], self.rows[FUSED].label_space
        if num_classes != expected.num_classes:
            raise UserError(
                f"the network has {num_classes} classes, but the data's label space {expected.name!r} has "
                f"{expected.num_classes}; evaluate on data of the label space that the network was trained for"
            )
        return fused._replace(views={}), at_input_sizes(fused.views, images.shape[-2:]), fused.views
