"""Judges the attention: it is kept only where it beats the average of the same views."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyscale.attending.config import AttendConfig
from polyscale.attending.controls import Control
from polyscale.attending.pixels import grid_views
from polyscale.attention import AttentionOverViews
from polyscale.baselines import average_logits, average_probabilities
from polyscale.data.items import SegmentationData
from polyscale.errors import UserError
from polyscale.intervals import Interval, difference, mean_iou, of_confusion
from polyscale.metrics import confusion_matrix, top_class
from polyscale.processes import rank_and_world, sum_over_ranks
from polyscale.views import View, at_input_sizes, resize

__all__ = ["Judgement", "judge"]

ATTENTION, AVERAGE, LOGITS, ORACLE = "attention", "average of probabilities", "average of logits", "oracle"


@dataclass(frozen=True)
class Judgement:
    """Scores on images that the attention was not learnt from."""

    mean_iou: Mapping[str, float]
    """Row -> mIoU as a fraction."""
    gain: Interval
    """Gain of the attention over the better of the two averages."""
    images: int

    @property
    def keep(self) -> bool:
        """The attention beats averaging by more than the bootstrap's spread."""
        return self.gain.low > 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        gain = {"value": self.gain.value, "low": self.gain.low, "high": self.gain.high}
        return {"mean_iou": dict(self.mean_iou), "gain": gain, "keep": self.keep, "images": self.images}

    def table(self) -> tuple[str, list[str], list[list[Any]]]:
        """Title, columns and rows."""
        rows = [[name, 100 * value] for name, value in self.mean_iou.items()]
        return f"On {self.images} images that the attention was not learnt from", ["", "mIoU"], rows


@torch.inference_mode()
def judge(
    model: AttentionOverViews,
    data: SegmentationData,
    config: AttendConfig,
    controls: Sequence[Control] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Judgement:
    """Score the attention and its controls on the same views; under ``torchrun`` each process looks at its share.

    The oracle takes, at each pixel, any scale that is right: what a perfect choice of scales would reach.

    Raises:
        UserError: an image has no mask, or cannot be read.
    """
    tables: dict[str, Tensor] = {}
    device = next(model.parameters()).device
    rank, world = rank_and_world()
    share = range(rank, len(data), world)
    for done, index in enumerate(share, start=1):
        sample = data.read(index)
        if sample.labels is None:
            raise UserError(f"image {sample.name!r} has no mask; attention is judged on labelled images")
        labels = torch.from_numpy(sample.labels).to(device)
        views = grid_views(model, torch.from_numpy(sample.image), config.scales)
        num_classes = views[1.0].logits.shape[1]
        for name, classes in _rows(model, controls, views, labels):
            empty = torch.zeros(len(data), num_classes, num_classes, dtype=torch.int64)
            tables.setdefault(name, empty)[index] = confusion_matrix(classes, labels, num_classes).cpu()
        if progress is not None:
            progress(done, len(share))
    sum_over_ranks(list(tables.values()), device)
    counts = {name: table.numpy() for name, table in tables.items()}
    scores = {name: float(mean_iou(of_confusion(table.sum(0)))) for name, table in counts.items()}
    better = max((AVERAGE, LOGITS), key=lambda name: scores[name])
    return Judgement(scores, difference(counts[ATTENTION], counts[better]), len(data))


def _rows(
    model: AttentionOverViews, controls: Sequence[Control], views: dict[float, View], labels: Tensor
) -> Iterable[tuple[str, Tensor]]:
    """Name and classes (H, W) of each way of combining the views."""
    size = labels.shape[-2:]
    full = at_input_sizes({scale: View(view.logits) for scale, view in views.items()}, size)
    right = torch.zeros_like(labels, dtype=torch.bool)
    coarse = None
    for scale in sorted(full):
        classes = top_class(resize(full[scale].logits, size)[0])[1]
        right |= classes == labels
        coarse = classes if coarse is None else coarse
        yield f"scale {scale:g}", classes
    yield AVERAGE, top_class(average_probabilities(full)[0])[1]
    yield LOGITS, top_class(average_logits(full)[0])[1]
    known = model.known(views, size)
    for control in controls:
        yield control.name, top_class(resize(control.chain(views, known).logits, size)[0])[1]
    fused = top_class(resize(model.chain(views, known).logits, size)[0])[1]
    yield ATTENTION, fused
    yield ORACLE, torch.where(right, labels, fused)
